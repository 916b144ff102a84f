"""What the store promised, key by key, and what may or may not have happened."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class KeyLedger:
    """The history of one key, which one writer alone changes, one request at a time.

    Contents are unique, so a digest tells one PUT from every other.
    """

    acknowledged: dict[str, int] = field(default_factory=dict)
    """SHA-256 of each acknowledged PUT -> its version number."""
    unknown: set[str] = field(default_factory=set)
    """SHA-256 of PUTs whose answer never came: there once, or not at all."""
    removed: set[str] = field(default_factory=set)
    """Versions removed for good, acknowledged."""
    maybe_removed: set[str] = field(default_factory=set)
    markers: int = 0
    maybe_markers: int = 0
    newest: int = 0
    """Version number of the newest acknowledged change (PUT or marker)."""
    newest_is_marker: bool = False
    changing: bool = False
    """A change is under way: its effect may be visible already."""

    def contents(self) -> set[str]:
        """Every digest that may ever be read from this key."""
        return set(self.acknowledged) | self.unknown


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
