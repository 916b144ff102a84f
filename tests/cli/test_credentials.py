"""What commands on keys, tokens, shares and the audit ask for, and what they print."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.durations import parse_duration
from cli.output import ExitCode, UsageError
from tests.cli.fake_frontend import FakeFrontend, Told, refusal, serving
from tests.cli.runner import ossctl

KEY: dict[str, Any] = {
    "access_key": "K",
    "scopes": ["info"],
    "buckets": ["b"],
    "prefixes": ["p/"],
    "expires_at": None,
    "note": "[bold]",
    "disabled": False,
    "created_at": "2026-01-01T00:00:00.000Z",
    "changed_at": "2026-01-01T00:00:00.000Z",
    "previous_secret_until": None,
}
TIME = "2026-01-01T00:00:00.000Z"
JTI = "0123456789abcdef01234567"
TOKEN = b64encode(json.dumps({"jti": JTI}).encode()).decode().rstrip("=") + "." + "a" * 64
ANSWERS: dict[str, Any] = {
    "POST /v1/keys": {**KEY, "secret_key": "S3cret"},
    "PATCH /v1/keys/K": KEY,
    "GET /v1/keys/K": KEY,
    "POST /v1/keys/K/rotate": {**KEY, "secret_key": "S3cret", "previous_secret_until": TIME},
    "DELETE /v1/keys/K": None,
    "POST /v1/tokens": {"token": "t.o", "jti": JTI, "expires_at": TIME},
    f"DELETE /v1/tokens/{JTI}": None,
    "GET /v1/signing-keys": {"keys": [{"kid": "k1", "created_at": TIME, "retires_at": None}]},
    "POST /v1/signing-keys/rotate": {"kid": "k2"},
    "PUT /v1/system-token": {"status": "success", "token": "made-up"},
    "POST /v1/shares": {"url": "http://h/share/x/y", "jti": JTI, "version": 3, "expires_at": TIME},
}


def run(*words: str) -> tuple[str, str, Any]:
    """Standard output, the request, and its JSON body, of a command that succeeds."""
    bodies: list[bytes] = []

    def answer(method: str, path: str, body: bytes) -> Told:
        bodies.append(body)
        found = ANSWERS[f"{method} {path}"]
        return Told(200, b"" if found is None else json.dumps(found).encode())

    with serving(answer) as frontend:
        done = ossctl(frontend.url, *words)
    assert done.exit_code == 0, done.output
    method, path = frontend.seen[-1]
    return done.stdout, f"{method} {path}", json.loads(bodies[-1]) if bodies[-1] else None


@pytest.mark.parametrize(
    ("words", "request_line", "body"),
    [
        (
            "key create -s upload -s info -b b -p p/ --expires 30d --note n --id K",
            "POST /v1/keys",
            {
                "scopes": ["upload", "info"],
                "buckets": ["b"],
                "prefixes": ["p/"],
                "expires_s": 30 * 86_400,
                "note": "n",
                "access_key": "K",
            },
        ),
        ("key create -s admin", "POST /v1/keys", {"scopes": ["admin"]}),
        ("key create -s info --expires 0s", "POST /v1/keys", {"scopes": ["info"], "expires_s": 0}),
        ("key set K --expires never", "PATCH /v1/keys/K", {"expires_at": None}),
        ("key set K --expires 1h", "PATCH /v1/keys/K", {"expires_s": 3600}),
        ("key set K --unlimited", "PATCH /v1/keys/K", {"buckets": [], "prefixes": []}),
        ("key set K --disable", "PATCH /v1/keys/K", {"disabled": True}),
        ("key set K --enable -p q", "PATCH /v1/keys/K", {"disabled": False, "prefixes": ["q"]}),
        ("key rotate K", "POST /v1/keys/K/rotate", {"overlap_s": 86_400}),
        ("key rotate K --overlap 0", "POST /v1/keys/K/rotate", {"overlap_s": 0}),
        ("key revoke K", "DELETE /v1/keys/K", None),
        (
            "token create HASH -t both --expires 10m --max-size 7",
            "POST /v1/tokens",
            {"type": "both", "hash": "HASH", "ttl_s": 600, "max_size": 7},
        ),
        (f"token revoke {JTI}", f"DELETE /v1/tokens/{JTI}", None),
        (f"token revoke {TOKEN}", f"DELETE /v1/tokens/{JTI}", None),
        (f"token revoke http://h/share/{TOKEN}/name", f"DELETE /v1/tokens/{JTI}", None),
        ("token rotate-key --overlap 1h", "POST /v1/signing-keys/rotate", {"overlap_s": 3600}),
        ("token set-system", "PUT /v1/system-token", {}),
        (
            "share oss://bkt/k --expires 2h --version 3 --attachment",
            "POST /v1/shares",
            {"bucket": "bkt", "key": "k", "expires_s": 7200, "attachment": True, "version": 3},
        ),
    ],
)
def test_a_command_is_one_request(words: str, request_line: str, body: Any) -> None:
    _, seen, sent = run(*words.split())
    assert (seen, sent) == (request_line, body)


@pytest.mark.parametrize(
    ("words", "secret"),
    [("key create -s info", "S3cret"), ("key rotate K", "S3cret"), ("token set-system", "made-up")],
)
def test_a_secret_is_printed_where_it_is_made(words: str, secret: str) -> None:
    out, _, _ = run(*words.split())
    assert out.count(secret) == 1
    out, _, _ = run(*words.split(), "--json")
    assert secret in json.dumps(json.loads(out))


def test_a_key_is_shown_for_people() -> None:
    out, _, _ = run("key", "show", "K")
    assert "oss://b/p/" in out and "[bold]" in out and "never" in out


def test_a_link_is_all_that_share_prints_to_its_reader() -> None:
    assert run("share", "k")[0] == "http://h/share/x/y\n"


def test_a_system_token_comes_from_a_file_not_an_argument(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token-of-some-length\n")
    out, _, sent = run("token", "set-system", "--file", str(tmp_path / "token"))
    assert sent == {"token": "a-token-of-some-length"}
    assert "a-token-of-some-length" not in out


def frontend_with_audit(count: int) -> Any:
    """Newest first, in pages of at most 3, however many are asked for."""

    def answer(method: str, path: str, body: bytes) -> Told:
        asked = queries.pop(0)
        entries = [
            {
                "number": number,
                "at": TIME,
                "actor": "root",
                "action": "key.create",
                "target": f"t{number}",
                "detail": "",
                "request_id": "r",
                "source": "::1",
                "outcome": "done",
            }
            for number in asked
        ]
        following = asked[-1] if asked and asked[-1] > 1 else None
        return Told(200, json.dumps({"entries": entries, "next": following}).encode())

    queries = [list(range(top, max(0, top - 3), -1)) for top in range(count, 0, -3)]
    return answer


def test_the_audit_is_printed_oldest_first_over_pages() -> None:
    with serving(frontend_with_audit(7)) as frontend:
        done = ossctl(frontend.url, "audit", "ls", "--json")
    numbers = [json.loads(line)["number"] for line in done.stdout.splitlines()]
    assert numbers == [1, 2, 3, 4, 5, 6, 7]
    with serving(frontend_with_audit(2)) as frontend:
        table = ossctl(frontend.url, "audit", "ls").stdout
    assert table.index("t1") < table.index("t2")


@pytest.mark.parametrize(
    ("words", "listed"),
    [("key ls", "keys"), ("token keys", "keys"), ("audit ls", "entries"), ("bucket ls", "buckets")],
)
def test_each_thing_listed_is_a_line_of_json(words: str, listed: str) -> None:
    found = [{"n": 1}, {"n": 2}]

    def answer(method: str, path: str, body: bytes) -> Told:
        return Told(200, json.dumps({listed: found, "next": None}).encode())

    with serving(answer) as frontend:
        done = ossctl(frontend.url, *words.split(), "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines == (found[::-1] if words == "audit ls" else found)  # asked for newest first


def test_keys_are_listed_over_pages() -> None:
    pages = [{"keys": [{**KEY, "access_key": "A"}], "next": "A"}, {"keys": [KEY], "next": None}]

    def answer(method: str, path: str, body: bytes) -> Told:
        return Told(200, json.dumps(pages.pop(0)).encode())

    with serving(answer) as frontend:
        done = ossctl(frontend.url, "key", "ls")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["KEY", "A", "K"]


@pytest.mark.parametrize(
    "words",
    [
        "key create",
        "key set K",
        "key set K --unlimited -b b",
        "key create -s info --expires soon",
        "share k --expires 1",
        "share",
        "key create -s info --id=",
        "bucket create bkt --profile=",
        "token revoke nothing",
        "token revoke not.base64!",
        f"token revoke {TOKEN[:-1]}",
        f"token revoke http://h/share/{JTI[1:]}/name",
        f"token revoke bm9qc29u.{'a' * 64}",  # no JSON
        f"token revoke eyJqdGkiOjF9.{'a' * 64}",  # an id that is a number
        f"token revoke W10.{'a' * 64}",  # no object
    ],
)
def test_a_line_that_makes_no_sense_asks_nobody(words: str) -> None:
    def answer(method: str, path: str, body: bytes) -> Told:
        raise AssertionError("nobody is asked")

    with serving(answer) as frontend:
        assert ossctl(frontend.url, *words.split()).exit_code == ExitCode.USAGE
        assert frontend.seen == []


def told(status: int, code: str, *words: str) -> int:
    def answer(method: str, path: str, body: bytes) -> Told:
        return refusal(status, code, "why")

    with serving(answer) as frontend:
        return ossctl(frontend.url, *words).exit_code


def test_refusals_are_exit_codes() -> None:
    assert told(409, "LastAdminKey", "key", "revoke", "root") == ExitCode.FAILURE
    assert told(404, "NoSuchAccessKey", "key", "show", "x") == ExitCode.NOT_FOUND
    assert told(403, "AccessDenied", "audit", "ls") == ExitCode.DENIED
    assert told(404, "NoSuchKey", "share", "x") == ExitCode.NOT_FOUND


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("InvalidArgument", "key create -s fly"),
        ("InvalidArgument", "key create -s info --expires 0s"),
        ("InvalidName", "key create -s info -b B@D"),
        ("InvalidArgument", "token create zz -t upload"),
        ("InvalidArgument", f"token create {'0' * 64} -t sideways"),
        ("InvalidArgument", "prune --keep 1001"),
        ("MalformedBody", f"token create {'0' * 64} -t upload --expires 999999999w"),
    ],
)
def test_a_wrong_word_that_only_the_store_knows_is_a_usage_error(code: str, words: str) -> None:
    assert told(400, code, *words.split()) == ExitCode.USAGE


# --- a local cluster keeps its own secrets true -----------------------------------------------


def local_cluster(folder: Path, frontend: FakeFrontend) -> None:
    facts = {
        "frontends": [{"id": "frontend-1", "api": frontend.url}],
        "metanodes": [],
        "blobs": [],
        "root_access_key": "K",
        "root_secret_key": "former",
        "system_token": "former",
    }
    (folder / "cluster.json").write_text(json.dumps(facts))
    (folder / "local.json").write_text(json.dumps({"environment": {}}))


def test_a_local_cluster_goes_on_with_the_new_secrets(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from cli.__main__ import app

    def answer(method: str, path: str, body: bytes) -> Told:
        return Told(200, json.dumps(ANSWERS[f"{method} {path}"]).encode())

    with serving(answer) as frontend:
        local_cluster(tmp_path, frontend)
        for words in (["key", "rotate", "K"], ["token", "set-system"]):
            done = CliRunner().invoke(app, [*words, "--dir", str(tmp_path)])
            assert done.exit_code == 0, done.output
    facts = json.loads((tmp_path / "cluster.json").read_text())
    assert (facts["root_secret_key"], facts["system_token"]) == ("S3cret", "made-up")
    assert (tmp_path / "cluster.json").stat().st_mode & 0o777 == 0o600


# --- durations --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("0", 0), ("90s", 90), ("15m", 900), ("1h", 3600), ("30d", 2_592_000)),
        *(("1h30m", 5400), ("2w", 1_209_600), (" 1H ", 3600)),
    ],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "1", "h", "1x", "-1h", "1.5h", "1 h", "1h soon", "9" * 30 + "d"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError):
        parse_duration(text)


@given(text=st.text(max_size=12))
def test_any_text_is_a_duration_or_a_usage_error(text: str) -> None:
    try:
        assert parse_duration(text) >= 0
    except UsageError:
        pass
