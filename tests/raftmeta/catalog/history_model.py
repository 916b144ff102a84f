"""What users should see after any history of commands, as plain dicts."""

from dataclasses import dataclass, field

from raftmeta.commands import ObjectPut
from raftmeta.queries import Found

KEYS = ("a", "b", "c")
UPLOADS = (b"1" * 16, b"2" * 16)
PARENT = b"p" * 16
HOLDS = (b"8" * 16, b"9" * 16)

Body = bytes | tuple[int, ...] | None  # inline, contents of the stripes, a marker


@dataclass
class Model:
    """What users should see: per key its versions by number, and what uploads have staged."""

    versions: dict[str, dict[int, Body]] = field(default_factory=lambda: {k: {} for k in KEYS})
    next_number: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KEYS, 1))
    staged: dict[bytes, list[int]] = field(default_factory=dict)
    hits: dict[bytes, list[tuple[int, int]]] = field(default_factory=dict)
    # The one upload that comes in chunks: ids and contents by number, what is linked, and the
    # version it became.
    chunks: dict[int, tuple[bytes, list[int]]] = field(default_factory=dict)
    linked: list[int] = field(default_factory=list)
    finished: ObjectPut | None = None
    finished_until_ms: int = 0

    def put(self, key: str, body: Body) -> int:
        number = self.next_number[key]
        self.next_number[key] += 1
        self.versions[key][number] = body
        return number


def seen_body(found: Found) -> Body:
    if found.version.is_marker:
        return None
    if found.inline is not None:
        return found.inline
    return tuple(segment.stripe.stored_crc for segment in found.segments)
