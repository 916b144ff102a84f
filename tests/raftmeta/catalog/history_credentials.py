"""The part of any history that is about access keys, tokens and the audit."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from raftmeta.credentials import (
    AccessKeysListed,
    AuditListed,
    AuditNote,
    ChangeAccessKey,
    ListAccessKeys,
    ListAudit,
    PutAccessKey,
    RevokeAccessKey,
    RevokeTokens,
    RotateAccessKey,
    RotateSigningKey,
)
from raftmeta.entries import AnyCommand, AnyResult
from tests.raftmeta.catalog.harness import MINUTE_MS, Driver, refusal

ACCESS_KEYS = ("ROOT", "A", "B")


class CredentialRules(RuleBasedStateMachine):
    """Rules for a machine that drives a formed catalog."""

    driver: Driver

    def run_command(self, command: AnyCommand, audit: AuditNote | None = None) -> AnyResult:
        raise NotImplementedError

    @rule(
        key=st.sampled_from(ACCESS_KEYS),
        scopes=st.sampled_from([("admin",), ("admin", "info"), ("upload",)]),
        prefixes=st.sampled_from([(), (), ("a",)]),
        expires_in_ms=st.sampled_from([0, 0, 20 * MINUTE_MS]),
    )
    def put_access_key(
        self, key: str, scopes: tuple[str, ...], prefixes: tuple[str, ...], expires_in_ms: int
    ) -> None:
        expires_at_ms = self.driver.now_ms + expires_in_ms if expires_in_ms else 0
        put = PutAccessKey(
            access_key=key,
            secret_sealed=b"s",
            scopes=scopes,
            prefixes=prefixes,
            expires_at_ms=expires_at_ms,
        )
        self.administer(put)

    @rule(key=st.sampled_from(ACCESS_KEYS), disabled=st.booleans(), rotates=st.booleans())
    def change_access_key(self, key: str, disabled: bool, rotates: bool) -> None:
        rotate = RotateAccessKey(access_key=key, secret_sealed=b"t", overlap_ms=MINUTE_MS)
        self.administer(rotate if rotates else ChangeAccessKey(access_key=key, disabled=disabled))

    @rule(key=st.sampled_from(ACCESS_KEYS))
    def revoke_access_key(self, key: str) -> None:
        self.administer(RevokeAccessKey(access_key=key))

    @rule(kid=st.sampled_from("abc"), minutes=st.sampled_from([0, 30]), first=st.booleans())
    def rotate_signing_key(self, kid: str, minutes: int, first: bool) -> None:
        rotate = RotateSigningKey(
            kid=kid, secret_sealed=b"k", overlap_ms=minutes * MINUTE_MS, only_if_none=first
        )
        self.administer(rotate)

    @rule(jtis=st.lists(st.sampled_from("xyz"), max_size=3))
    def revoke_tokens(self, jtis: list[str]) -> None:
        self.administer(RevokeTokens(jtis=tuple(jtis)))

    def administer(self, command: AnyCommand) -> None:
        """Run it audited; whatever became of it, the audit says so."""
        note = AuditNote(actor="ROOT", action=type(command).__name__)
        result = self.run_command(command, note)
        listed = self.driver.ask(ListAudit(newest_first=True, limit=1))
        assert isinstance(listed, AuditListed)
        (row,) = listed.rows
        assert (row.action, row.outcome) == (note.action, refusal(result) or "done")

    @invariant()
    def somebody_may_administer(self) -> None:
        listed = self.driver.ask(ListAccessKeys())
        assert isinstance(listed, AccessKeysListed)
        assert any(
            "admin" in key.scopes
            and not (key.prefixes or key.buckets or key.disabled or key.expires_at_ms)
            for key in listed.keys
        )
