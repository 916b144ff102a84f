"""What a command does with each way a request can end."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from typer.testing import Result

from cli.fanout import PARALLEL
from cli.output import FAILURES_SHOWN, ExitCode
from tests.cli.fake_frontend import FakeFrontend, Told, refusal, serving
from tests.cli.runner import EVERY_REQUEST, ossctl

NO_BUCKET = refusal(404, "NoSuchBucket", "There is no bucket 'b'.")
OVERLOADED = refusal(503, "Overloaded", "Too many requests.")
WRONG_KEY = refusal(401, "Unauthenticated", "The access key or its secret is wrong.")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder; no cluster of whoever runs the tests is in reach."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("OSS_", "AWS_")):
            monkeypatch.delenv(name)
    yield tmp_path


def stored(body: bytes) -> Told:
    """The answer to a PUT."""
    facts = {"version": 1, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    return Told(200, json.dumps(facts).encode())


def store_but(failing: Mapping[str, Told]) -> AbstractContextManager[FakeFrontend]:
    """Takes every PUT except those whose path ends with a name of `failing`."""

    def answer(_method: str, path: str, body: bytes) -> Told:
        found = [told for end, told in failing.items() if path.endswith(end)]
        return found[0] if found else stored(body)

    return serving(answer)


def tree(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        (folder / f"f{number:03}").write_text(str(number))


# --- one object ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "code"),
    [
        (NO_BUCKET, ExitCode.NOT_FOUND),
        (WRONG_KEY, ExitCode.DENIED),
        (refusal(403, "AccessDenied", "Not with this key."), ExitCode.DENIED),
        (OVERLOADED, ExitCode.UNAVAILABLE),
        (refusal(507, "DiskFull", "The disk is full."), ExitCode.UNAVAILABLE),
        (refusal(400, "BadDigest", "Other bytes."), ExitCode.FAILURE),
    ],
)
def test_a_put_that_is_refused_says_so_in_one_line(here: Path, told: Told, code: int) -> None:
    (here / "f").write_text("x")
    with serving(lambda *_: told) as frontend:
        result = ossctl(frontend.url, "put", "f")
    assert result.exit_code == code
    message = json.loads(told.body)["error"]["message"]
    assert result.output == f"ossctl: {message}\n"


@pytest.mark.parametrize("words", EVERY_REQUEST, ids=" ".join)
def test_where_nobody_answers_every_command_is_unavailable(here: Path, words: list[str]) -> None:
    (here / "file").write_text("x")
    tree(here / "tree", 2)
    result = ossctl("http://127.0.0.1:1", *words)
    assert result.exit_code == ExitCode.UNAVAILABLE
    first = result.output.splitlines()[0]
    assert first.startswith("ossctl: ") and "connection refused" in first
    assert "ossctl up" in first
    assert sorted(os.listdir(here)) == ["file", "tree"]


def test_a_source_that_cannot_be_read_is_named(here: Path) -> None:
    with serving(lambda *_: OVERLOADED) as frontend:
        result = ossctl(frontend.url, "put", "/proc/self/mem", "memory")
        assert frontend.seen == []
    assert result.exit_code == ExitCode.FAILURE
    assert result.output == "ossctl: /proc/self/mem: Input/output error\n"


def test_a_source_that_becomes_shorter_is_named_and_not_stored(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "log").write_bytes(b"x" * 100_000)
    monkeypatch.setattr("cli.transfer.PIECE_BYTES", 50_000)
    real = os.read

    def read(descriptor: int, size: int) -> bytes:
        found = real(descriptor, size)
        if size == 50_000:
            os.truncate(here / "log", 50_000)
        return found

    monkeypatch.setattr("cli.transfer.os.read", read)
    with store_but({}) as frontend:
        result = ossctl(frontend.url, "put", "log")
        assert frontend.seen == []
    assert result.exit_code == ExitCode.FAILURE
    assert result.output == "ossctl: log became shorter while it was read\n"


CUT = Told(200, b'{"versions": [', declared=500)


def test_an_answer_that_breaks_off_is_unavailable(here: Path) -> None:
    (here / "f").write_text("x")
    with serving(lambda *_: CUT) as frontend:
        read = ossctl(frontend.url, "ls")
        change = ossctl(frontend.url, "put", "f")
        fetch = ossctl(frontend.url, "get", "f", "copy")
    for result in (read, change, fetch):
        assert result.exit_code == ExitCode.UNAVAILABLE
        assert result.output.startswith("ossctl: ") and "broke off" in result.output
    assert "whether it was done is not known" in change.output
    assert "not known" not in read.output
    assert os.listdir(here) == ["f"]


@pytest.mark.parametrize("status", [200, 301, 404, 500])
@pytest.mark.parametrize("words", [["ls"], ["put", "f"], ["rm", "f"], ["cluster", "status"]])
def test_something_else_at_the_endpoint_is_named(here: Path, status: int, words: list[str]) -> None:
    (here / "f").write_text("x")
    with serving(lambda *_: Told(status, b"<html>welcome</html>")) as frontend:
        result = ossctl(frontend.url, *words)
    assert result.exit_code == ExitCode.FAILURE
    assert frontend.url in result.output and "is the endpoint right?" in result.output


@pytest.mark.parametrize(
    "endpoint",
    ["nonsense", "http://", "ftp://host", "http://[::1", "http://h:99999", "http://h/?a", "h:80"],
)
def test_an_endpoint_that_is_none_is_a_usage_error(here: Path, endpoint: str) -> None:
    result = ossctl(endpoint, "ls")
    assert result.exit_code == ExitCode.USAGE
    assert "http://HOST:PORT" in result.output


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("NoLeader", "ossctl: No leader; 'ossctl cluster status' shows what does not run\n"),
        ("OutcomeUnknown", "whether it was done is not known: look, then try again\n"),
    ],
)
def test_errors_of_the_cluster_say_what_to_do(here: Path, code: str, said: str) -> None:
    with serving(lambda *_: refusal(503, code, "No leader.")) as frontend:
        result = ossctl(frontend.url, "rm", "x")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert result.output.endswith(said)


def test_stat_says_what_is_missing_though_head_has_no_body(here: Path) -> None:
    with serving(lambda *_: NO_BUCKET) as frontend:
        result = ossctl(frontend.url, "stat", "oss://bbb/x")
    assert result.exit_code == ExitCode.NOT_FOUND
    assert result.output == "ossctl: There is no bucket 'b'.\n"


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_versions_of_nothing_are_not_found(here: Path, option: list[str]) -> None:
    with serving(lambda *_: Told(200, b'{"versions": [], "next": null}')) as frontend:
        result = ossctl(frontend.url, "versions", "x", *option)
    assert result.exit_code == ExitCode.NOT_FOUND
    assert result.output == "ossctl: there is no object x\n"


# --- several objects -------------------------------------------------------------------

ODD = refusal(400, "BadDigest", "Other bytes.")


def test_what_fails_alone_is_named_and_the_others_are_done(here: Path) -> None:
    tree(here / "t", 12)
    (here / "t" / "gone").symlink_to("nowhere")
    with store_but({"f003": ODD, "f007": ODD}) as frontend:
        result = ossctl(frontend.url, "put", "-r", "t")
    assert result.exit_code == ExitCode.FAILURE
    assert len(frontend.seen) == 12
    told = {line for line in result.output.splitlines() if line.startswith("ossctl: ")}
    assert told == {
        "ossctl: t/f003: Other bytes.",
        "ossctl: t/f007: Other bytes.",
        "ossctl: t/gone: No such file or directory",
        "ossctl: 3 of 13 failed, 10 done",
    }
    assert result.output.count("version 1") == 10


@pytest.mark.parametrize(
    ("told", "code"),
    [
        (NO_BUCKET, ExitCode.NOT_FOUND),
        (WRONG_KEY, ExitCode.DENIED),
        (OVERLOADED, ExitCode.UNAVAILABLE),
    ],
)
def test_what_all_would_meet_keeps_the_rest_from_being_begun(
    here: Path, told: Told, code: int
) -> None:
    tree(here / "t", 50)
    with serving(lambda *_: told) as frontend:
        result = ossctl(frontend.url, "put", "-r", "t")
    assert result.exit_code == code
    assert len(frontend.seen) == PARALLEL
    last = result.output.splitlines()[-1]
    assert last == f"ossctl: {PARALLEL} of 50 failed, 0 done, {50 - PARALLEL} not begun"


def test_of_several_errors_the_one_that_bars_most_is_the_exit_status(here: Path) -> None:
    tree(here / "t", 5)
    with store_but({"f000": ODD, "f001": WRONG_KEY, "f002": OVERLOADED}) as frontend:
        result = ossctl(frontend.url, "put", "-r", "t")
    assert result.exit_code == ExitCode.DENIED
    for part in ("t/f000: Other", "t/f001: The access key", "t/f002: Too many", "3 of 5"):
        assert f"ossctl: {part}" in result.output


def test_of_very_many_failures_the_first_and_their_number_are_told(here: Path) -> None:
    tree(here / "t", FAILURES_SHOWN + 5)
    with serving(lambda *_: ODD) as frontend:
        result = ossctl(frontend.url, "put", "-r", "t")
    lines = result.output.splitlines()
    assert len(lines) == FAILURES_SHOWN + 2
    assert lines[-2:] == [
        "ossctl: (and 5 more)",
        f"ossctl: {FAILURES_SHOWN + 5} of {FAILURES_SHOWN + 5} failed, 0 done",
    ]


def listing(*keys: str) -> Told:
    page = {"objects": [{"key": k, "size": 1} for k in keys], "prefixes": [], "next": None}
    return Told(200, json.dumps(page).encode())


def test_get_and_rm_of_many_do_what_can_be_done(here: Path) -> None:
    keys = ["t/a", "t/bad", "t/c", "t/x//y", "t/z"]
    damaged = refusal(500, "CorruptStripe", "A decoded stripe fails its checksum.")

    def answer(method: str, path: str, _body: bytes) -> Told:
        if path.endswith("/objects"):
            return listing(*keys)
        if path.endswith("/bad"):
            return damaged
        return Told(204) if method == "DELETE" else Told(200, b"1")

    with serving(answer) as frontend:
        got = ossctl(frontend.url, "get", "-r", "t", "copy")
        removed = ossctl(frontend.url, "rm", "-r", "t/")
    assert got.exit_code == removed.exit_code == ExitCode.FAILURE
    assert sorted(path.name for path in (here / "copy").iterdir()) == ["a", "c", "z"]
    assert "ossctl: t/bad: A decoded stripe" in got.output
    assert "ossctl: t/x//y: the object name 'x//y' cannot be a file" in got.output
    assert "ossctl: 2 of 5 failed, 3 done" in got.output
    assert removed.output.count(" deleted\n") == 4
    assert "ossctl: t/bad: A decoded stripe" in removed.output


def test_a_full_target_ends_a_get_of_many(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("cli.transfer.Path.open", full)
    keys = [f"t/{number}" for number in range(30)]
    with serving(lambda _m, path, _b: listing(*keys)) as frontend:
        result = ossctl(frontend.url, "get", "-r", "t", "copy")
    assert result.exit_code == ExitCode.FAILURE
    assert "ossctl: t/0: copy/0: No space left on device" in result.output
    assert f"{PARALLEL} of 30 failed, 0 done, {30 - PARALLEL} not begun" in result.output
    assert os.listdir(here / "copy") == []


# --- where it lands --------------------------------------------------------------------


def fetch(*words: str) -> Result:
    with serving(lambda *_: Told(200, b"body")) as frontend:
        return ossctl(frontend.url, "get", *words)


def test_a_device_is_written_to_and_stays_one(here: Path) -> None:
    assert fetch("x", os.devnull).exit_code == ExitCode.OK
    assert not Path(os.devnull).is_file()
    result = fetch("x", "/dev/full")
    assert result.exit_code == ExitCode.FAILURE
    assert result.output == "ossctl: /dev/full: No space left on device\n"


def test_a_link_stays_a_link(here: Path) -> None:
    (here / "link").symlink_to("file")
    assert fetch("x", "link").exit_code == ExitCode.OK
    assert (here / "link").is_symlink() and (here / "file").read_text() == "body"


def test_the_longest_file_name_can_be_fetched(here: Path) -> None:
    assert fetch("n" * 255).exit_code == ExitCode.OK
    assert (here / ("n" * 255)).read_text() == "body"


def test_a_file_in_the_place_of_a_folder_is_said_to_be_none(here: Path) -> None:
    (here / "file").touch()
    result = fetch("x", "file/x")
    assert result.exit_code == ExitCode.FAILURE
    assert result.output == "ossctl: file/x: Not a directory\n"
    assert fetch("-r", "x", "file").output == "ossctl: file is no folder\n"


# --- what makes no sense ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["put", "a/f", "b/f", "p/"], "a/f and b/f would both become p/f"),
        (["put", "a/f", "--profile", "4"], "k+m"),
        (["put", "a/f", "--profile", ""], "k+m"),
        (["put", "a/f", "--content-type", "a\nb"], "content type"),
        (["put", "a/f", "--content-type", ""], "content type"),
        (["get", "-r", "x", "-"], "folder"),
        (["get", "-r", "x", "--version", "2"], "--version"),
        (["bucket", "create", "X"], "bucket name"),
        (["bucket", "create", "abc", "--profile", "17+1"], "1 to 16"),
    ],
)
def test_nonsense_is_refused_before_anything_is_sent(
    here: Path, words: list[str], said: str
) -> None:
    for folder in ("a", "b"):
        (here / folder).mkdir()
        (here / folder / "f").touch()
    with store_but({}) as frontend:
        result = ossctl(frontend.url, *words)
        assert frontend.seen == []
    assert result.exit_code == ExitCode.USAGE
    assert said in result.output
