"""`/v1/meta/backup` and `/v1/meta/adopt`."""

from typing import Final

from frontend.openapi.words import (
    Node,
    all_answers,
    answers,
    answers_json,
    fails,
    operation,
    path,
    sends_json,
)
from frontend.rest.described.answers import Adopted, Deletion
from frontend.rest.generation import BACKUP_TYPE, Adoption

ADOPTED_DELETION: Final = Deletion(
    frozen=False,
    restored_at_ms=1_800_000_000_000,
    disks=6,
    disks_confirmed=6,
    disks_unconfirmed=[],
)


def generation_paths() -> dict[str, Node]:
    """The catalog as a whole."""
    return {
        "/v1/meta/backup": path(get=_backup()),
        "/v1/meta/adopt": path(post=_adopt()),
    }


def _backup() -> Node:
    return operation(
        "backUp",
        "cluster",
        "The whole catalog as one file, consistent at one moment",
        all_answers(
            {"200": answers("A backup (docs/formats/backup.md).", {BACKUP_TYPE: {"schema": {}}})},
            fails(401, 403, 500, 503),
        ),
        says="Zstandard frames of an SQLite file. Objects' bytes stay on the blob daemons, but for"
        " small ones. One at a time: 503 while another copy is made.",
    )


def _adopt() -> Node:
    adopted = Adopted(generation=1_800_000_000_000, deletion=ADOPTED_DELETION)
    return operation(
        "adoptCatalog",
        "cluster",
        "Let deletion go on after a restore",
        all_answers(
            {"200": answers_json("It goes on.", Adopted, adopted)},
            fails(400, 401, 403, 409, 413, 500, 503),
        ),
        says="409 while disks have no census under the restored catalog, unless `force`.",
        body=sends_json("Optional.", Adoption, Adoption(force=True), required=False),
    )
