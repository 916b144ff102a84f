"""Access keys, the system token, signing keys and revoked tokens in the catalog."""

from pathlib import Path

import msgspec
import pytest

from raftmeta.catalog import apply_credentials, schema
from raftmeta.catalog.apply_credentials import (
    LIMITS_MAX,
    OVERLAP_MS_MAX,
    REVOKED_AT_ONCE,
    SIGNING_KEYS_MAX,
)
from raftmeta.catalog.catalog import Catalog
from raftmeta.commands import Collected, Done
from raftmeta.credentials import (
    TOKEN_LIFE_MS_MAX,
    AccessKeyFound,
    AccessKeyInfo,
    AccessKeysListed,
    ChangeAccessKey,
    CheckToken,
    FindAccessKey,
    FindSigningKeys,
    FindSystemToken,
    KeysUnchanged,
    ListAccessKeys,
    PutAccessKey,
    RevokeAccessKey,
    RevokeTokens,
    RotateAccessKey,
    RotateSigningKey,
    SetSystemToken,
    SigningKeysFound,
    SystemTokenFound,
    TokenChecked,
)
from tests.raftmeta.catalog.harness import MINUTE_MS, Driver, refusal

KEY = PutAccessKey(access_key="A", secret_sealed=b"s", scopes=("download",))
ADMIN = PutAccessKey(access_key="ADMIN", secret_sealed=b"a", scopes=("admin",))


def find(driver: Driver, access_key: str = "A") -> AccessKeyFound:
    found = driver.ask(FindAccessKey(access_key=access_key))
    assert isinstance(found, AccessKeyFound), found
    return found


def shown(driver: Driver, access_key: str = "A") -> AccessKeyInfo:
    found = driver.ask(ListAccessKeys(access_key=access_key))
    assert isinstance(found, AccessKeysListed)
    return found.keys[0]


def signing_keys(driver: Driver) -> list[tuple[str, bool]]:
    """Each living key, and whether it is the active one."""
    found = driver.ask(FindSigningKeys())
    assert isinstance(found, SigningKeysFound)
    return [(key.kid, key.retires_at_ms == 0) for key in found.keys]


def rotate(driver: Driver, kid: str, overlap_ms: int = 0, *, first: bool = False) -> str:
    command = RotateSigningKey(
        kid=kid, secret_sealed=b"k", overlap_ms=overlap_ms, only_if_none=first
    )
    return refusal(driver.run(command))


def epoch(driver: Driver) -> int:
    return driver.catalog.head.keys_epoch


# --- access keys -----------------------------------------------------------------------------


def test_a_new_key_does_not_replace_one(driver: Driver) -> None:
    new = msgspec.structs.replace(KEY, must_be_new=True)
    assert driver.run(new) == Done()
    assert refusal(driver.run(new)) == "AccessKeyExists"
    assert driver.run(msgspec.structs.replace(KEY, note="replaced")) == Done()
    assert shown(driver).note == "replaced"


def test_a_changed_key_keeps_its_secret_and_what_was_not_named(driver: Driver) -> None:
    driver.run(msgspec.structs.replace(KEY, buckets=("bucket",), note="n"))
    before = shown(driver)
    assert driver.run(ChangeAccessKey(access_key="A", prefixes=("a/", "b"))) == Done()
    found, after = find(driver), shown(driver)
    assert (found.secret_sealed, found.prefixes, found.buckets) == (b"s", ("a/", "b"), ("bucket",))
    assert (after.note, after.scopes, after.created_at_ms) == (
        "n",
        ("download",),
        before.created_at_ms,
    )
    assert after.changed_at_ms > before.changed_at_ms
    assert driver.run(ChangeAccessKey(access_key="A", buckets=(), prefixes=())) == Done()
    assert (find(driver).buckets, find(driver).prefixes) == ((), ())


def test_a_disabled_key_is_as_if_it_were_not_there_until_enabled(driver: Driver) -> None:
    driver.run(KEY)
    driver.run(ChangeAccessKey(access_key="A", disabled=True))
    assert refusal(driver.ask(FindAccessKey(access_key="A"))) == "NoSuchAccessKey"
    assert shown(driver).disabled
    driver.run(ChangeAccessKey(access_key="A", disabled=False))
    assert find(driver).secret_sealed == b"s"


def test_both_secrets_are_valid_until_the_overlap_ends(driver: Driver) -> None:
    driver.run(KEY)
    rotation = RotateAccessKey(access_key="A", secret_sealed=b"t", overlap_ms=5 * MINUTE_MS)
    assert driver.run(rotation) == Done()
    found = find(driver)
    assert (found.secret_sealed, found.previous_sealed) == (b"t", b"s")
    assert found.previous_until_ms == driver.catalog.head.catalog_time_ms + 5 * MINUTE_MS
    driver.pass_time(4 * MINUTE_MS)
    assert find(driver).previous_sealed == b"s"
    driver.pass_time(MINUTE_MS)
    assert (find(driver).previous_sealed, shown(driver).previous_until_ms) == (b"", 0)


def test_a_second_rotation_ends_the_secret_before_the_last(driver: Driver) -> None:
    driver.run(KEY)
    for secret in (b"t", b"u"):
        driver.run(RotateAccessKey(access_key="A", secret_sealed=secret, overlap_ms=MINUTE_MS))
    assert (find(driver).secret_sealed, find(driver).previous_sealed) == (b"u", b"t")
    driver.run(RotateAccessKey(access_key="A", secret_sealed=b"v"))
    assert (find(driver).secret_sealed, find(driver).previous_sealed) == (b"v", b"")


def test_every_change_of_a_key_is_a_new_epoch(driver: Driver) -> None:
    commands = [
        KEY,
        ChangeAccessKey(access_key="A", note="x"),
        RotateAccessKey(access_key="A", secret_sealed=b"t"),
        RevokeAccessKey(access_key="A"),
    ]
    for command in commands:
        before = epoch(driver)
        assert driver.ask(FindAccessKey(access_key="A", known_epoch=before)) == KeysUnchanged()
        assert driver.run(command) == Done()
        assert epoch(driver) == before + 1
        assert driver.ask(FindAccessKey(access_key="A", known_epoch=before)) != KeysUnchanged()


@pytest.mark.parametrize(
    "command",
    [
        RevokeAccessKey(access_key="ROOT"),
        ChangeAccessKey(access_key="ROOT", disabled=True),
        ChangeAccessKey(access_key="ROOT", scopes=("upload", "download")),
        ChangeAccessKey(access_key="ROOT", buckets=("bucket",)),
        ChangeAccessKey(access_key="ROOT", prefixes=("a",)),
        ChangeAccessKey(access_key="ROOT", expires_at_ms=1 << 45),
        PutAccessKey(access_key="ROOT", secret_sealed=b"s", scopes=("info",)),
    ],
)
def test_the_last_key_that_may_everything_stays(driver: Driver, command: PutAccessKey) -> None:
    limited = msgspec.structs.replace(ADMIN, access_key="LIMITED", buckets=("bucket",))
    driver.run(limited)
    before = epoch(driver)
    assert refusal(driver.run(command)) == "LastAdminKey"
    assert (find(driver, "ROOT").buckets, epoch(driver)) == ((), before)
    driver.run(ADMIN)
    assert driver.run(command) == Done()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (msgspec.structs.replace(KEY, scopes=("fly",)), "InvalidArgument"),
        (msgspec.structs.replace(KEY, scopes=("info", "info")), "InvalidArgument"),
        (msgspec.structs.replace(KEY, access_key=""), "InvalidArgument"),
        (msgspec.structs.replace(KEY, access_key="x" * 129), "InvalidArgument"),
        (msgspec.structs.replace(KEY, access_key="a\nb"), "InvalidArgument"),
        (msgspec.structs.replace(KEY, secret_sealed=b""), "InvalidArgument"),
        (msgspec.structs.replace(KEY, secret_sealed=bytes(1025)), "InvalidArgument"),
        (msgspec.structs.replace(KEY, buckets=("NO",)), "InvalidName"),
        (msgspec.structs.replace(KEY, prefixes=("",)), "InvalidArgument"),
        (msgspec.structs.replace(KEY, prefixes=("x" * 1025,)), "InvalidArgument"),
        (msgspec.structs.replace(KEY, prefixes=("x",) * (LIMITS_MAX + 1)), "InvalidArgument"),
        (msgspec.structs.replace(KEY, note="x" * 201), "InvalidArgument"),
        (ChangeAccessKey(access_key="A", scopes=()), "InvalidArgument"),
        (ChangeAccessKey(access_key="nobody"), "NoSuchAccessKey"),
        (RotateAccessKey(access_key="nobody", secret_sealed=b"s"), "NoSuchAccessKey"),
        (RotateAccessKey(access_key="A", secret_sealed=b""), "InvalidArgument"),
        (RotateAccessKey(access_key="A", secret_sealed=b"s", overlap_ms=-1), "InvalidArgument"),
        (
            RotateAccessKey(access_key="A", secret_sealed=b"s", overlap_ms=OVERLAP_MS_MAX + 1),
            "InvalidArgument",
        ),
        (RevokeAccessKey(access_key="nobody"), "NoSuchAccessKey"),
        (SetSystemToken(digest=b"short"), "InvalidArgument"),
        (RotateSigningKey(kid="a b", secret_sealed=b"s"), "InvalidArgument"),
        (RotateSigningKey(kid="k", secret_sealed=b""), "InvalidArgument"),
        (RotateSigningKey(kid="k", secret_sealed=b"s", overlap_ms=-1), "InvalidArgument"),
        (RevokeTokens(jtis=("x" * 65,)), "InvalidArgument"),
        (RevokeTokens(jtis=("x",) * (REVOKED_AT_ONCE + 1)), "CommandTooLarge"),
    ],
)
def test_what_makes_no_sense_is_refused(driver: Driver, command: PutAccessKey, code: str) -> None:
    driver.run(KEY)
    before = driver.catalog.head
    assert refusal(driver.run(command)) == code
    assert epoch(driver) == before.keys_epoch
    assert driver.catalog.contradictions() == []


def test_keys_are_listed_in_pages_without_secrets(driver: Driver) -> None:
    for number in range(5):
        driver.run(msgspec.structs.replace(KEY, access_key=f"K{number}"))
    names: list[str] = []
    after: str | None = ""
    while after is not None:
        page = driver.ask(ListAccessKeys(after=after, limit=2))
        assert isinstance(page, AccessKeysListed) and len(page.keys) <= 2
        names += [key.access_key for key in page.keys]
        after = page.next
    assert names == ["K0", "K1", "K2", "K3", "K4", "ROOT"]
    assert b"secret" not in msgspec.json.encode(page)


def test_there_is_a_bound_on_keys(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply_credentials, "ACCESS_KEYS_MAX", 2)
    assert driver.run(KEY) == Done()
    assert driver.run(KEY) == Done()  # no new one
    assert refusal(driver.run(ADMIN)) == "Conflict"
    driver.run(RevokeAccessKey(access_key="A"))
    assert driver.run(ADMIN) == Done()


# --- the system token -------------------------------------------------------------------------


def test_the_system_token_is_replaced(driver: Driver) -> None:
    assert driver.ask(FindSystemToken()) == SystemTokenFound(digest=b"t" * 32)
    assert driver.run(SetSystemToken(digest=b"u" * 32)) == Done()
    assert driver.ask(FindSystemToken()) == SystemTokenFound(digest=b"u" * 32)


# --- keys that sign tokens ----------------------------------------------------------------------


def test_of_several_first_keys_one_is_made(driver: Driver) -> None:
    assert signing_keys(driver) == []
    entries = [
        driver.next(RotateSigningKey(kid=kid, secret_sealed=b"s", only_if_none=True))
        for kid in ("a", "b")
    ]
    assert driver.apply(*entries) == [Done(), Done()]
    assert signing_keys(driver) == [("a", True)]


def test_tokens_of_a_former_key_are_valid_while_the_overlap_lasts(driver: Driver) -> None:
    rotate(driver, "a")
    assert rotate(driver, "b", overlap_ms=5 * MINUTE_MS) == ""
    assert signing_keys(driver) == [("b", True), ("a", False)]
    assert isinstance(driver.ask(CheckToken(kid="a", jti="j")), TokenChecked)
    driver.pass_time(5 * MINUTE_MS)
    assert refusal(driver.ask(CheckToken(kid="a", jti="j"))) == "RevokedToken"
    assert signing_keys(driver) == [("b", True)]
    driver.collect()
    kept = driver.catalog._writer.execute("SELECT kid FROM signing_keys").fetchall()
    assert kept == [("b",)]


def test_rotation_without_overlap_ends_all_tokens_of_before(driver: Driver) -> None:
    rotate(driver, "a")
    rotate(driver, "b", overlap_ms=OVERLAP_MS_MAX)
    assert rotate(driver, "c") == ""
    assert signing_keys(driver) == [("c", True)]
    for kid in ("a", "b"):
        assert refusal(driver.ask(CheckToken(kid=kid, jti="j"))) == "RevokedToken"


def test_a_shorter_overlap_shortens_that_of_older_keys(driver: Driver) -> None:
    rotate(driver, "a")
    rotate(driver, "b", overlap_ms=60 * MINUTE_MS)
    rotate(driver, "c", overlap_ms=5 * MINUTE_MS)
    driver.pass_time(6 * MINUTE_MS)
    assert signing_keys(driver) == [("c", True)]


def test_many_keys_that_are_valid_together_are_refused(driver: Driver) -> None:
    for number in range(SIGNING_KEYS_MAX):
        assert rotate(driver, f"k{number}", overlap_ms=MINUTE_MS) == ""
    assert rotate(driver, "more", overlap_ms=MINUTE_MS) == "Conflict"
    assert rotate(driver, "k31", overlap_ms=MINUTE_MS) == "Conflict"
    assert rotate(driver, "last") == ""
    assert signing_keys(driver) == [("last", True)]


# --- tokens taken back ---------------------------------------------------------------------------


def test_a_revoked_token_stays_so_for_as_long_as_any_token_lives(driver: Driver) -> None:
    rotate(driver, "a")
    assert driver.run(RevokeTokens(jtis=("one", "two"))) == Done()
    assert driver.run(RevokeTokens(jtis=("one",))) == Done()
    assert refusal(driver.ask(CheckToken(kid="a", jti="one"))) == "RevokedToken"
    assert isinstance(driver.ask(CheckToken(kid="a", jti="three")), TokenChecked)
    driver.pass_time(TOKEN_LIFE_MS_MAX, idle=True)
    driver.collect()
    assert refusal(driver.ask(CheckToken(kid="a", jti="one"))) == "RevokedToken"
    driver.pass_time(61 * MINUTE_MS, idle=True)
    while driver.collect() != Collected():
        pass
    assert isinstance(driver.ask(CheckToken(kid="a", jti="one")), TokenChecked)
    assert driver.catalog.contradictions() == []


def test_there_is_a_bound_on_revoked_tokens(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply_credentials, "REVOKED_MAX", 3)
    assert driver.run(RevokeTokens(jtis=("a", "b", "c"))) == Done()
    assert driver.run(RevokeTokens(jtis=("c",))) == Done()
    assert refusal(driver.run(RevokeTokens(jtis=("c", "d")))) == "Conflict"
    assert driver.catalog.contradictions() == []


# --- files of before -----------------------------------------------------------------------------


def test_keys_of_an_older_file_work_on(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    db = schema._connect(path)
    schema.migrate(db, schema.STEPS[:1])
    db.execute("INSERT INTO access_keys VALUES ('A', x'73', '[\"info\"]', '[]', 0, 'old', 77)")
    db.close()
    driver = Driver(path)
    driver.open()
    found = find(driver)
    assert (found.scopes, found.prefixes, found.created_at_ms) == (("info",), (), 77)
    assert driver.run(RevokeAccessKey(access_key="A")) == Done()
    assert driver.catalog.contradictions() == []
    driver.catalog.close()
    Catalog(path).close()
