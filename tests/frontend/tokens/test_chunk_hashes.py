"""Chunks that come with a SHA-256 of their own: which one is wrong is said, as far as known."""

from pathlib import Path

import pytest

from frontend.flows.chunks import _runs
from tests.frontend.harness import random_bytes
from tests.frontend.tokens.client import TokenApi, form_of, hash_of, run

MIB = 1 << 20
BODY = random_bytes(4 * MIB, seed=31)
PARTS = [BODY[at : at + MIB] for at in range(0, len(BODY), MIB)]
WRONG = random_bytes(MIB, seed=32)


async def send(
    api: TokenApi, token: str, number: int, body: bytes, *, says: bytes | None, more: str = ""
) -> tuple[int, int, str]:
    """Send a chunk as one whose content is `says`; answers status, code, message."""
    said = "" if says is None else f"&chunk_hash={hash_of(says)}"
    answer = await api.chunk(token, number, body, more=said + more)
    return answer.status, answer.json["code"], answer.json["msg"]


@pytest.mark.parametrize("word", ["chuck", "chunk"])
def test_a_chunk_that_arrives_wrong_is_named_and_not_held(tmp_path: Path, word: str) -> None:
    async def story(api: TokenApi) -> None:
        token = await api.token("upload", BODY)
        for number, part in enumerate(PARTS):
            if number == 2:
                status, code, message = await send(api, token, number, WRONG, says=part)
                assert (status, code) == (422, 5543)
                assert message.startswith("Chunk 2 ") and hash_of(part) in message
            more = f"&{word}_hash={hash_of(part).upper()}"
            answer = await api.chunk(token, number, part, word=word, more=more)
            assert answer.json["data"]["received"] == list(range(number + 1))
        assert (await api.finish(token)).status == 200
        assert (await api.download(BODY)).body == BODY

    run(tmp_path, story)


def test_a_chunk_that_is_wrong_does_not_replace_one_that_is_held(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        token = await api.token("upload", BODY)
        for number, part in enumerate(PARTS):
            assert (await send(api, token, number, part, says=part))[0] == 200
        replaced = await send(api, token, 1, WRONG, says=PARTS[1], more="&replace=1")
        assert replaced[:2] == (422, 5543)
        assert (await api.finish(token)).status == 200

    run(tmp_path, story)


def test_who_sends_a_chunk_again_learns_whether_the_one_held_is_the_same(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        token = await api.token("upload", BODY)
        await send(api, token, 0, PARTS[0], says=None)
        await send(api, token, 1, WRONG, says=None)
        same = await send(api, token, 0, PARTS[0], says=PARTS[0])
        other = await send(api, token, 1, PARTS[1], says=PARTS[1])
        unsaid = await send(api, token, 1, PARTS[1], says=None)
        assert {each[:2] for each in (same, other, unsaid)} == {(409, 5545)}
        assert "of just that SHA-256" in same[2] and "of another SHA-256" in other[2]
        assert "SHA-256" not in unsaid[2]

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("unsaid", "told"),
    [
        ((), "Every chunk has the SHA-256 its sender declared"),
        ((0, 1, 2, 3), "Which chunk is wrong nobody can tell"),
        ((0, 2, 3), "may be wrong: 0, 2-3. All others have theirs"),
    ],
)
@pytest.mark.parametrize("size_bytes", [MIB, 1000])
def test_what_is_known_is_said_where_the_whole_differs(
    tmp_path: Path, unsaid: tuple[int, ...], told: str, size_bytes: int
) -> None:
    """Short chunks are put together in another way than long ones."""
    whole = b"".join(part[:size_bytes] for part in PARTS)
    wrong = [part[:size_bytes] for part in PARTS]
    number = unsaid[0] if unsaid else 0
    wrong[number] = WRONG[:size_bytes]

    async def story(api: TokenApi) -> None:
        token = await api.token("upload", whole)
        for at, part in enumerate(wrong):
            says = None if at in unsaid else part
            assert (await send(api, token, at, part, says=says))[0] == 200
        refused = await api.finish(token)
        assert (refused.status, refused.json["code"]) == (422, 5543)
        assert told in refused.json["msg"] and hash_of(whole) in refused.json["msg"]
        right = PARTS[number][:size_bytes]
        assert (await send(api, token, number, right, says=right, more="&replace=1"))[0] == 200
        assert (await api.finish(token)).status == 200
        assert (await api.download(whole)).body == whole

    run(tmp_path, story)


@pytest.mark.parametrize(
    "said",
    [
        "chunk_hash=",
        "chunk_hash=x",
        f"chunk_hash={'0' * 63}",
        f"chuck_hash={'g' * 64}",
        f"chunk_hash={'0' * 64}&chuck_hash={'1' * 64}",
    ],
)
def test_what_is_no_hash_is_refused_and_nothing_held(tmp_path: Path, said: str) -> None:
    async def story(api: TokenApi) -> None:
        token = await api.token("upload", BODY)
        path = f"/upload/chunk?chunk=0&{said}"
        bad = await api.post_form(path, form_of(PARTS[0]), token=token)
        assert (bad.status, bad.json["code"]) == (400, 5545)
        assert (await api.chunk(token, 1, PARTS[0])).json["data"]["received"] == [1]

    run(tmp_path, story)


def test_numbers_are_told_in_runs() -> None:
    assert _runs([0]) == "0"
    assert _runs([1, 2, 3, 5, 8, 9]) == "1-3, 5, 8-9"
    many = _runs(list(range(0, 10_000, 2)))
    assert many.endswith(", 38, ...") and many.startswith("0, 2, 4")
