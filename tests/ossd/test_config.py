"""File < environment < flags; unknown keys are errors that name the key."""

from pathlib import Path

import msgspec
import pytest

from osscore.errors import InvalidArgument
from ossd.config import HostPort, Shown, load


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    data: tuple[str, ...] = ()
    cluster_secret: str = ""
    volume_bytes: int = 1 << 30
    scrub_bytes_per_s: int = 1000
    gc_grace_s: int = 3600
    heartbeat_s: float = 1.0
    fsync: bool = True
    zone: str | None = None


def loaded(file: Path | None = None, environ=None, **flags):
    return load(
        Settings, role="blobd", argv_flags={"id": "b1", **flags}, environ=environ or {}, file=file
    )


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "oss.toml"
    path.write_text(text)
    return path


def test_flags_win_over_environment_over_file_over_defaults(tmp_path):
    file = toml(tmp_path, "zone = 'file'\ngc_grace_s = 1\nheartbeat_s = 2\n")
    found = loaded(file, {"OSS_ZONE": "env", "OSS_GC_GRACE_S": "7"}, zone="flag", fsync=None)
    assert found.struct == Settings(id="b1", zone="flag", gc_grace_s=7, heartbeat_s=2.0)
    assert found.origins["zone"] == "flag"
    assert found.origins["gc_grace_s"] == "environment OSS_GC_GRACE_S"
    assert found.origins["heartbeat_s"] == f"file {file}"
    assert found.origins["fsync"] == "default"


def test_the_roles_own_table_wins_and_other_roles_tables_are_theirs(tmp_path):
    text = "zone = 'all'\n[blobd]\nzone = 'mine'\n[frontend]\nsomething = 1\n"
    assert loaded(toml(tmp_path, text)).struct.zone == "mine"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("zoen = 'a'\n", "'zone'"),
        ("[blobd]\nvolume_byte = 1\n", "'volume_bytes'"),
        ("[blodb]\nzone = 'a'\n", "'blobd'"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(tmp_path, text, named):
    with pytest.raises(InvalidArgument, match=f"Did you mean {named}"):
        loaded(toml(tmp_path, text))


def test_keys_that_only_other_roles_know_may_be_shared(tmp_path):
    file = toml(tmp_path, "repair_delay_s = 1\n")
    kind = {"role": "blobd", "argv_flags": {"id": "b"}, "environ": {}, "file": file}
    assert load(Settings, **kind, shared=("repair_delay_s",)).struct.id == "b"
    with pytest.raises(InvalidArgument, match="repair_delay_s"):
        load(Settings, **kind)


def test_an_unknown_flag_is_an_error():
    with pytest.raises(InvalidArgument, match="zome"):
        loaded(zome="x")


def test_a_value_may_come_from_a_file_named_by_the_environment(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("  deep secret\n")
    found = loaded(environ={"OSS_CLUSTER_SECRET_FILE": str(secret)})
    assert found.struct.cluster_secret == "deep secret"
    with pytest.raises(InvalidArgument, match="OSS_CLUSTER_SECRET_FILE"):
        loaded(environ={"OSS_CLUSTER_SECRET_FILE": str(secret), "OSS_CLUSTER_SECRET": "x"})
    with pytest.raises(InvalidArgument, match="cannot be read"):
        loaded(environ={"OSS_CLUSTER_SECRET_FILE": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("OSS_VOLUME_BYTES", "64MiB", "volume_bytes", 64 << 20),
        ("OSS_VOLUME_BYTES", "1.5 gb", "volume_bytes", 1_500_000_000),
        ("OSS_SCRUB_BYTES_PER_S", "20MB", "scrub_bytes_per_s", 20_000_000),
        ("OSS_GC_GRACE_S", "10m", "gc_grace_s", 600),
        ("OSS_HEARTBEAT_S", "250ms", "heartbeat_s", 0.25),
        ("OSS_HEARTBEAT_S", "2", "heartbeat_s", 2.0),
        ("OSS_DATA", "/a, /b,", "data", ("/a", "/b")),
        ("OSS_FSYNC", "false", "fsync", False),
    ],
)
def test_text_becomes_the_fields_type(variable, text, field, value):
    assert getattr(loaded(environ={variable: text}).struct, field) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("OSS_VOLUME_BYTES", "12 parsecs"),
        ("OSS_VOLUME_BYTES", "many"),
        ("OSS_GC_GRACE_S", "0.5"),
        ("OSS_FSYNC", "maybe"),
    ],
)
def test_a_value_of_the_wrong_kind_names_the_field_and_its_origin(variable, text):
    with pytest.raises(InvalidArgument, match=f"{variable[4:].lower()}.*{variable}"):
        loaded(environ={variable: text})


def test_a_missing_value_and_an_unreadable_file_are_errors(tmp_path):
    with pytest.raises(InvalidArgument, match="id"):
        load(Settings, role="blobd", argv_flags={}, environ={}, file=None)
    for file in (tmp_path / "none.toml", toml(tmp_path, "zone = ")):
        with pytest.raises(InvalidArgument, match="cannot be read"):
            loaded(file)


def test_what_is_shown_hides_secrets_and_tells_origins():
    shown = loaded(environ={"OSS_CLUSTER_SECRET": "deep secret"}).shown()
    assert shown[0] == Shown("id", "b1", "flag")
    secret = next(line for line in shown if line.key == "cluster_secret")
    assert secret == Shown("cluster_secret", "(hidden)", "environment OSS_CLUSTER_SECRET")


def test_lists_come_from_flags_too():
    assert loaded(data=("/a", "/b")).struct.data == ("/a", "/b")
    assert loaded(data=["/a"]).struct.data == ("/a",)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("a:1", "a", 1), (":9000", "", 9000), ("[::1]:80", "::1", 80), ("0.0.0.0:0", "0.0.0.0", 0)],
)
def test_addresses_are_parsed_and_printed(text, host, port):
    assert HostPort.parse(text) == HostPort(host, port)
    assert str(HostPort.parse(text)) == text


@pytest.mark.parametrize("text", ["", "a", "a:", "a:x", "a:70000", "a:-1"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(InvalidArgument):
        HostPort.parse(text)
