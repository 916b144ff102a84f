"""Bodies that are no JSON are told so, whatever is wrong with them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osscore.errors import MalformedBody
from ossd.json_body import parse_json


class Wanted(msgspec.Struct):
    """Any struct that takes anything."""

    size: int = 0
    rest: object = None


def test_json_becomes_the_struct() -> None:
    assert parse_json(b'{"size": 5, "more": 1}', Wanted, "It is none") == Wanted(size=5)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"size": "x"}', b'{"rest": "\xff"}', b'{"rest":' * 9000],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_none_is_told(body: bytes) -> None:
    with pytest.raises(MalformedBody, match="It is none: "):
        parse_json(body, Wanted, "It is none")


def test_a_name_that_is_no_text_is_told() -> None:
    class Strict(msgspec.Struct, forbid_unknown_fields=True):
        size: int = 0

    with pytest.raises(MalformedBody):
        parse_json(b'{"\x9c": 1}', Strict, "It is none")


@given(st.binary(max_size=60), st.integers(0, 30))
def test_no_bytes_raise_anything_else(noise: bytes, at: int) -> None:
    good = b'{"size": 5, "rest": ["a", {"b": null}]}'
    for body in (noise, good[:at] + noise + good[at + len(noise) :]):
        try:
            assert isinstance(parse_json(body, Wanted, "no"), Wanted)
        except MalformedBody:
            pass
