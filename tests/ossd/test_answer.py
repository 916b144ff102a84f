"""The answer parser gives the same whatever the pieces, and is strict about where an
answer ends."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossd.answer import HEAD_BYTES_MAX, AnswerParser, MalformedAnswer

FIXED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nx-a:  2 \r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;ext=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
)
UNTIL_CLOSE = b"HTTP/1.0 200 OK\r\n\r\neverything"


def parsed(pieces, method: str = "GET", *, closed: bool = False) -> AnswerParser:
    parser = AnswerParser(method)
    for piece in pieces:
        parser.feed(piece)
    if closed:
        parser.end()
    return parser


def outcome(parser: AnswerParser):
    return parser.status, b"".join(parser.pieces), parser.done, parser.reusable


@pytest.mark.parametrize(
    ("answer", "status", "body", "reusable"),
    [
        (FIXED, 200, b"hello", True),
        (CHUNKED, 201, b"abc0123456789", True),
        (UNTIL_CLOSE, 200, b"everything", False),
    ],
)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_an_answer_is_the_same_in_any_pieces(data, answer, status, body, reusable):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(answer)), max_size=12)))
    borders = [0, *cuts, len(answer)]
    pieces = [answer[a:b] for a, b in itertools.pairwise(borders)]
    closed = answer is UNTIL_CLOSE
    assert outcome(parsed(pieces, closed=closed)) == (status, body, True, reusable)


def test_headers_are_found_in_any_case_and_repeated_ones_joined():
    headers = parsed([FIXED]).headers
    assert (headers["x-A"], headers["CONTENT-LENGTH"]) == ("1, 2", "5")
    assert "X-a" in headers
    assert "x-b" not in headers
    assert dict(headers) == {"content-length": "5", "x-a": "1, 2"}


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_some_answers_have_no_body(method, head):
    parser = parsed([head], method)
    assert (parser.done, parser.reusable, parser.pieces) == (True, True, [])


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        FIXED + b"HTTP/1.1 200 injected",
        CHUNKED + b"x",
    ],
)
def test_a_connection_is_not_used_again_if_the_peer_closes_or_says_too_much(answer):
    parser = parsed([answer])
    assert parser.done
    assert not parser.reusable


def test_bytes_that_come_after_the_end_spoil_the_connection():
    parser = parsed([FIXED])
    assert parser.reusable
    parser.feed(b"x")
    assert not parser.reusable


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0 x\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: empty\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nSpace : x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: ²\r\n\r\n".encode("latin1"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 5000,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * HEAD_BYTES_MAX,
    ],
)
def test_what_is_no_answer_is_refused(answer):
    with pytest.raises(MalformedAnswer):
        parsed([answer])


@pytest.mark.parametrize("answer", [FIXED, CHUNKED])
@pytest.mark.parametrize("kept", [0, 10, -1])
def test_an_answer_cut_short_is_refused(answer, kept):
    with pytest.raises(MalformedAnswer, match="before the end"):
        parsed([answer[:kept]], closed=True)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_no_bytes_break_the_parser(data):
    for prefix in (b"", FIXED[:60], CHUNKED[:90]):
        try:
            parsed([prefix, data], closed=True)
        except MalformedAnswer:
            continue
