"""What words on the command line mean, and what comes out."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.__main__ import app
from cli.output import ExitCode, UsageError, exit_code, human_bytes
from cli.target import Target, parse_object, parse_prefix
from cli.transfer import local_path, uploads
from osscore.errors import (
    AccessDenied,
    BadDigest,
    InvalidArgument,
    InvalidName,
    MalformedBody,
    NoLeader,
    NoSuchKey,
    Unauthenticated,
)
from tests.cli.fake_frontend import Told, serving
from tests.cli.runner import ossctl


@pytest.mark.parametrize(
    ("text", "bucket", "target"),
    [
        ("a/b c", None, Target("objects", "a/b c")),
        ("a", "pics", Target("pics", "a")),
        ("oss://pics/a/b", None, Target("pics", "a/b")),
        ("s3://pics/a", "pics", Target("pics", "a")),
        ("../x", None, Target("objects", "../x")),
    ],
)
def test_names_and_urls(text: str, bucket: str | None, target: Target) -> None:
    assert parse_object(text, bucket) == target


@pytest.mark.parametrize(
    ("text", "bucket"), [("", None), ("x" * 1025, None), ("oss://pics/", None), ("a", "No")]
)
def test_bad_names_are_usage_errors(text: str, bucket: str | None) -> None:
    with pytest.raises(UsageError):
        parse_object(text, bucket)


def test_a_url_and_another_bucket_contradict() -> None:
    with pytest.raises(UsageError, match="another bucket"):
        parse_prefix("oss://pics/a", "docs")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("t/a", "t/sub/b", "f"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("sources", "target", "keys"),
    [
        (["f"], None, ["f"]),
        (["f"], "x", ["x"]),
        (["f"], "x/", ["x/f"]),
        (["f"], "", ["f"]),
        (["t"], None, ["t/a", "t/sub/b"]),
        (["t"], "", ["a", "sub/b"]),
        (["t"], "y", ["y/a", "y/sub/b"]),
        (["t", "f"], "z/", ["z/t/a", "z/t/sub/b", "z/f"]),
    ],
)
def test_which_file_becomes_which_key(
    tree: Path, sources: list[str], target: str | None, keys: list[str]
) -> None:
    found = uploads([tree / source for source in sources], target, recursive=True)
    assert [key for _, key in found] == keys


def test_a_folder_needs_recursive(tree: Path) -> None:
    with pytest.raises(UsageError, match="-r"):
        uploads([tree / "t"], None, recursive=False)


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/x", "a//b", ".", ""])
def test_no_key_leaves_the_folder_it_is_fetched_into(tmp_path: Path, key: str) -> None:
    with pytest.raises(UsageError):
        local_path(tmp_path, key)


def test_exit_codes_are_those_of_the_conventions() -> None:
    assert exit_code(NoSuchKey()) is ExitCode.NOT_FOUND
    assert exit_code(AccessDenied()) is ExitCode.DENIED
    assert exit_code(Unauthenticated()) is ExitCode.DENIED
    assert exit_code(NoLeader()) is ExitCode.UNAVAILABLE
    assert exit_code(BadDigest()) is ExitCode.FAILURE
    for wrong in (InvalidArgument(), InvalidName(), MalformedBody()):
        assert exit_code(wrong) is ExitCode.USAGE


def test_sizes_for_people() -> None:
    assert [human_bytes(n) for n in (0, 1023, 1536, 1 << 30)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "1.0 GiB",
    ]


def test_without_a_cluster_the_error_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("OSS_ENDPOINT", "AWS_ENDPOINT_URL", "OSS_DIR"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(app, ["ls"])
    assert result.exit_code == ExitCode.USAGE
    assert "ossctl up" in result.output


def test_an_unreachable_frontend_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OSS_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    result = CliRunner().invoke(app, ["ls"])
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "no frontend answers" in result.output


@pytest.mark.parametrize(
    "words", [["put", "-"], ["put", "nothing-here"], ["rm", "-r", "--version", "1", "x"]]
)
def test_contradictions_are_usage_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OSS_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    assert CliRunner().invoke(app, words).exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("was_deleted", "said"),
    [(True, "z is back: version 3"), (False, "z was not deleted: it stays at version 3")],
)
def test_undelete_says_whether_anything_was_deleted(was_deleted: bool, said: str) -> None:
    answer = {"version": 3, "version_id": "03", "was_deleted": was_deleted}
    told = Told(body=json.dumps(answer).encode(), headers={"Content-Type": "application/json"})
    with serving(lambda method, path, body: told) as frontend:
        result = ossctl(frontend.url, "undelete", "z")
    assert result.exit_code == 0 and said in result.output
