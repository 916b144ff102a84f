"""What the store promised, key by key, and what may or may not have happened."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class KeyLedger:
    """The history of one key, which one writer alone changes, one request at a time.

    Contents of 16 bytes and more are unique, so a digest tells one PUT from every other;
    shorter ones recur, and are told apart by their version numbers.
    """

    acknowledged: dict[int, str] = field(default_factory=dict)
    """Version number of each acknowledged PUT -> its SHA-256."""
    unknown: Counter[str] = field(default_factory=Counter)
    """SHA-256 of PUTs whose answer never came: each is there once, or not at all."""
    removed: set[int] = field(default_factory=set)
    """Versions removed for good, acknowledged."""
    maybe_removed: set[int] = field(default_factory=set)
    markers: int = 0
    maybe_markers: int = 0
    newest: int = 0
    """Version number of the newest acknowledged change (PUT or marker)."""
    newest_is_marker: bool = False
    changing: bool = False
    """A change is under way: its effect may be visible already."""

    def contents(self) -> set[str]:
        """Every digest that may ever be read from this key."""
        return set(self.acknowledged.values()) | set(+self.unknown)

    def begin_put(self, digest: str) -> None:
        """A PUT is sent; until it is acknowledged its outcome is unknown."""
        self.unknown[digest] += 1

    def end_put(self, digest: str, number: int) -> str | None:
        """It was acknowledged as that version; answers the promise this breaks, if any."""
        self.unknown[digest] -= 1
        given_twice = number in self.acknowledged
        self.acknowledged[number] = digest
        self.newest, self.newest_is_marker = number, False
        if not given_twice:
            return None
        return f"acknowledged version {number} is lost: its number was given again"

    def end_removal(self, number: int, status: int) -> str | None:
        """The removal of a version was answered so (0: not at all); answers what is wrong."""
        was_tried = number in self.maybe_removed
        self.maybe_removed.add(number)
        if status == 404 and not was_tried:
            return f"acknowledged version {number} is lost: it could not be removed"
        if status in (204, 404):  # a retry after an unknown outcome may find it gone
            self.removed.add(number)
        elif status and status < 500:
            return f"removal of version {number} refused with {status}"
        return None


@dataclass(slots=True)
class Ledger:
    """All keys, and every broken promise found so far."""

    keys: dict[str, KeyLedger] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def key(self, name: str) -> KeyLedger:
        """The ledger of a key, made on first use."""
        return self.keys.setdefault(name, KeyLedger())

    def count(self, what: str) -> None:
        """One more of these."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def violation(self, text: str) -> None:
        """A promise was broken; the run will fail and print this."""
        self.violations.append(text)
