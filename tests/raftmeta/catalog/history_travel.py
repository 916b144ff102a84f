"""The part of any history that goes back in time."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from raftmeta.credentials import AuditNote
from raftmeta.entries import AnyCommand, AnyResult
from raftmeta.timetravel import ObjectRestored, RestoreObject, RestoreOutcome
from tests.raftmeta.catalog.harness import Driver
from tests.raftmeta.catalog.history_model import KEYS, Body, Model


class TravelRules(RuleBasedStateMachine):
    """Rules for a machine that drives a formed catalog beside a model."""

    driver: Driver
    model: Model

    def __init__(self) -> None:
        super().__init__()
        self.moments: list[tuple[int, dict[str, tuple[int, Body]]]] = []

    def run_command(self, command: AnyCommand, audit: AuditNote | None = None) -> AnyResult:
        raise NotImplementedError

    @rule()
    def remember(self) -> None:
        """The newest version or marker of each key, as of now."""
        newest = {k: max(found.items()) for k, found in self.model.versions.items() if found}
        self.moments.append((self.driver.catalog.head.catalog_time_ms, newest))

    @rule(key=st.sampled_from(KEYS), pick=st.integers(0, 50))
    def restore(self, key: str, pick: int) -> None:
        if not self.moments:
            self.remember()
        at_ms, newest = self.moments[pick % len(self.moments)]
        number, body = newest.get(key, (0, None))
        versions = self.model.versions[key]
        current = versions[max(versions)] if versions else None
        began_ms = self.driver.catalog.head.catalog_time_ms
        result = self.run_command(
            RestoreObject(bucket="bucket", key=key, at_ms=at_ms, began_ms=began_ms)
        )
        assert isinstance(result, ObjectRestored)
        match result.outcome:
            case RestoreOutcome.RESTORED:
                assert body is not None and result.number == number in versions
                self.model.put(key, body)
            case RestoreOutcome.HIDDEN:
                assert body is None and current is not None
                self.model.put(key, None)
            case RestoreOutcome.UNCHANGED:
                assert current == body
            case RestoreOutcome.REMOVED:
                assert body is not None and number not in versions
            case _:
                assert result.outcome is RestoreOutcome.UNKNOWN
