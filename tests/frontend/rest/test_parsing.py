"""Headers, names and cursors, parsed: pure functions under arbitrary input."""

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.rest.versions import cursor, parse_cursor
from frontend.serving.encoding import accepts_gzip
from frontend.serving.etags import (
    evaluate,
    http_date,
    parse_date,
    parse_tags,
    range_applies,
    write_conditions,
)
from frontend.serving.ranges import parse_range
from osscore import paths
from osscore.digest_headers import declared_sha256, hash_of_name
from osscore.errors import InvalidArgument, InvalidName, InvalidRange, StoreError
from osscore.kept_headers import user_metadata
from ossd.credentials import parse_authorization

sizes = st.integers(0, 10_000)


@given(sizes, sizes, sizes)
def test_ranges_select_what_python_slices_do(first: int, last: int, size_bytes: int) -> None:
    body = bytes(index % 251 for index in range(size_bytes))
    cases = {f"bytes={first}-": body[first:], f"bytes=-{last}": body[-last:] if last else b""}
    if first <= last:
        cases[f"bytes={first}-{last}"] = body[first : last + 1]
    for header, expected in cases.items():
        wanted = parse_range(header)
        assert wanted is not None
        try:
            begin, end = wanted.resolve(size_bytes)
        except InvalidRange as error:
            assert (expected, error.size_bytes) == (b"", size_bytes)
        else:
            assert body[begin : end + 1] == expected != b""


@given(st.text(max_size=40))
def test_no_header_makes_a_parser_fail_otherwise_than_it_says(text: str) -> None:
    parse_range(text)
    parse_range("bytes=" + text)
    parse_tags(text)
    parse_date(text)
    accepts_gzip(text)
    hash_of_name(text)
    parse_cursor(text)
    headers = dict.fromkeys(("If-Match", "If-None-Match", "If-Modified-Since"), text)
    evaluate(headers, etag="x", modified_ms=0)
    write_conditions(headers)
    range_applies(text, etag="x", modified_ms=0)
    for parser, argument in (
        (parse_authorization, text),
        (parse_authorization, "Basic " + text),
        (paths.object_of, "/objects/" + text),
        (declared_sha256, {"Digest": text}),
        (declared_sha256, {"Content-Digest": text}),
    ):
        try:
            parser(argument)  # type: ignore[operator]
        except StoreError:
            pass


@given(st.text(min_size=1, max_size=100).filter(lambda text: "\0" not in text))
def test_every_name_survives_its_path(name: str) -> None:
    try:
        encoded = quote(name, safe="/")
    except UnicodeEncodeError:
        return
    assert paths.object_of("/objects/" + encoded) == ("objects", name)
    assert paths.object_of("/buckets/b%61g/objects/" + encoded) == ("bag", name)
    assert parse_cursor(cursor((name, 7))) == (name, 7)


def test_names_with_bad_escapes_are_refused() -> None:
    for raw in ("%", "%f", "%ff", "a%zzb", "%c3%28"):
        with pytest.raises(InvalidName):
            paths.object_of("/objects/" + raw)


@given(st.integers(0, 4_000_000_000))
def test_dates_round_trip(seconds: int) -> None:
    assert parse_date(http_date(seconds * 1000 + 999)) == seconds


@given(st.binary(min_size=32, max_size=32))
def test_a_digest_header_may_be_in_hex(digest: bytes) -> None:
    assert declared_sha256({"Digest": f"SHA-256={digest.hex()}"}) == digest


@given(st.binary(min_size=32, max_size=32))
def test_hashes_are_known_in_hex_and_base64(digest: bytes) -> None:
    standard = base64.b64encode(digest).decode()
    assert hash_of_name(digest.hex()) == hash_of_name(digest.hex().upper()) == digest
    assert hash_of_name(standard) == hash_of_name(standard.rstrip("=")) == digest
    assert hash_of_name(base64.urlsafe_b64encode(digest).decode()) == digest
    assert declared_sha256({"Digest": f"sha-256={standard}"}) == digest
    assert declared_sha256({"Repr-Digest": f"sha-256=:{standard}:"}) == digest


def test_two_different_digests_are_refused() -> None:
    one, two = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))
    with pytest.raises(InvalidArgument):
        declared_sha256({"Digest": f"SHA-256={one}", "Content-Digest": f"sha-256=:{two}:"})


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("x-gzip", True),
        ("deflate, gzip;q=0.1", True),
        ("gzip;q=0.000", False),
        ("gzip;q=1.000", True),
        ("gzip;q=0.5, identity", False),
        ("gzip;q=0.5, identity;q=0.1", True),
        ("*", False),
        ("identity", False),
        ("gzipped", False),
    ],
)
def test_accept_encoding(header: str | None, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted


def test_user_metadata_is_bounded() -> None:
    assert user_metadata([("X-Oss-Meta-A", "1"), ("x-oss-meta-a", "2"), ("Other", "3")]) == {
        "a": "1,2"
    }
    with pytest.raises(InvalidArgument):
        user_metadata([("X-Oss-Meta-A", "x" * 8192)])
