"""The right of one request to write: judged where its command is applied, not asked for before.

What this process remembers of the caller's key decides whether to begin; the command then
carries it as a condition (`IfKeyUnchanged`), so what happened to the key meanwhile counts, whoever
did it. Where the condition fails the catalog is asked, and its answer is the caller's.
"""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from osscore.errors import AccessDenied, KeyChanged, NoLeader, NotReady, OutcomeUnknown, StoreError
from ossd.credentials import Credentials
from raftmeta.access import Access, Grant, Proof
from raftmeta.client import MetaClient
from raftmeta.credentials import AuditNote, IfKeyUnchanged, KeyedCommand

R = TypeVar("R")
T = TypeVar("T")

ATTEMPTS_MAX = 5
"""A key that is changed as often while one command is on its way is none to wait for."""


class Permit:
    """Of one request. A Proposer: its commands hold as long as the caller may."""

    def __init__(
        self,
        access: Access,
        meta: MetaClient,
        credentials: Credentials,
        require: Callable[[Grant], None],
    ) -> None:
        """`require` raises AccessDenied unless a grant allows what the request wants."""
        self._access = access
        self._meta = meta
        self._credentials = credentials
        self._require = require
        self._proof: Proof | None = None
        self._was_asked = False

    @property
    def grant(self) -> Grant:
        """Who the caller is, after `begin`: certain once a command was applied."""
        assert self._proof is not None
        return self._proof.grant

    async def begin(self, *, asks: bool) -> None:
        """Decide whether to go on: by what is remembered, if that allows it and not `asks`.

        Raises Unauthenticated, AccessDenied as the catalog says, Unavailable.
        """
        self._proof = None if asks else self._recalled()
        if self._proof is None:
            await self._ask()

    async def judge(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` answers. Whoever may not is told so, whatever else it failed of."""
        try:
            return await work
        except (OutcomeUnknown, NoLeader):
            raise  # done, perhaps; or there is nobody to ask
        except StoreError:
            if not self._was_asked:
                await self._ask()
            raise

    async def propose(
        self, command: KeyedCommand, result: type[R], *, audit: AuditNote | None = None
    ) -> R:
        """See MetaClient.propose; applied only while the caller may. Raises Unauthenticated,
        AccessDenied too."""
        for _ in range(ATTEMPTS_MAX):
            assert self._proof is not None
            if not self._proof.changed_at_ms:
                return await self._meta.propose(command, result, audit=audit)
            try:
                return await self._meta.propose(
                    _conditional(self._proof, command), result, audit=audit
                )
            except KeyChanged:
                await self._ask()
        raise NotReady("This access key is changed again and again.")

    def _recalled(self) -> Proof | None:
        proof = self._access.recall(self._credentials)
        try:
            if proof is not None:
                self._require(proof.grant)
        except AccessDenied:
            return None
        return proof

    async def _ask(self) -> None:
        self._was_asked = True
        proof = await self._access.prove(self._credentials)
        self._require(proof.grant)
        self._proof = proof


def _conditional(proof: Proof, command: KeyedCommand) -> IfKeyUnchanged:
    return IfKeyUnchanged(
        access_key=proof.grant.access_key,
        changed_at_ms=proof.changed_at_ms,
        is_former_secret=proof.is_former_secret,
        command=command,
    )
