"""Access keys for tests of the native API."""

from typing import Any

from ossd.clock import system_random
from ossd.signing import seal
from raftmeta.commands import Done
from raftmeta.credentials import AuditListed, AuditRow, ListAudit, PutAccessKey
from tests.frontend.harness import CATALOG_KEY
from tests.frontend.rest.serving import Api


async def make_key(api: Api, name: str, *scopes: str, **limits: Any) -> tuple[str, str]:
    """A key whose secret is `s`, as credentials."""
    key = PutAccessKey(
        access_key=name,
        secret_sealed=seal(CATALOG_KEY, b"s", system_random),
        scopes=scopes,
        **limits,
    )
    await api.world.meta.propose(key, Done)
    return name, "s"


async def audited(api: Api, **query: Any) -> list[AuditRow]:
    """The audit, oldest first."""
    return list((await api.world.meta.query(ListAudit(**query), AuditListed)).rows)
