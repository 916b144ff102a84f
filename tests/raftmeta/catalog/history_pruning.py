"""The part of any history that is about old versions."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from raftmeta.commands import PruneVersions, VersionsPruned
from raftmeta.credentials import AuditNote
from raftmeta.entries import AnyCommand, AnyResult
from tests.raftmeta.catalog.history_model import KEYS, Model


class PruningRules(RuleBasedStateMachine):
    """Rules for a machine that drives a formed catalog beside a model."""

    model: Model

    def run_command(self, command: AnyCommand, audit: AuditNote | None = None) -> AnyResult:
        raise NotImplementedError

    @rule(key=st.sampled_from(KEYS), keep=st.integers(1, 3), rows_max=st.sampled_from([1, 500]))
    def prune(self, key: str, keep: int, rows_max: int) -> None:
        versions = self.model.versions[key]
        real = sorted((n for n, body in versions.items() if body is not None), reverse=True)
        older = sorted(n for n in versions if len(real) >= keep and n < real[keep - 1])
        command = PruneVersions(bucket="bucket", key=key, keep=keep, rows_max=rows_max)
        result = self.run_command(command)
        assert isinstance(result, VersionsPruned)
        gone = older[: result.versions + result.markers]
        assert result.is_done == (gone == older) and bool(gone) == bool(older)
        assert result.markers == sum(versions[number] is None for number in gone)
        for number in gone:
            del versions[number]
