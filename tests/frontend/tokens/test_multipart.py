"""The form parser: however the bytes arrive, the same file comes out, or the same refusal."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontend.tokens.multipart import (
    BEFORE_BYTES_MAX,
    BESIDE_BYTES_MAX,
    HEADER_BYTES_MAX,
    HEADERS_MAX,
    FormFile,
)
from osscore.errors import IncompleteBody, MalformedBody, StoreError

BOUNDARY = b"b0undary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}


@dataclass(frozen=True)
class Parsed:
    """What came out of a form."""

    body: bytes
    file_name: str
    content_type: str


def part(body: bytes, disposition: str = 'form-data; name="file"', *more: str) -> bytes:
    """One part with its delimiter."""
    headers = "\r\n".join([f"Content-Disposition: {disposition}", *more]).encode()
    return b"--" + BOUNDARY + b"\r\n" + headers + b"\r\n\r\n" + body + b"\r\n"


END = b"--" + BOUNDARY + b"--\r\n"


def parse(pieces: Iterable[bytes], headers: Mapping[str, str] = FORM) -> Parsed:
    """Run the parser over a body that arrives so."""

    async def arriving() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def main() -> Parsed:
        form = FormFile(headers, arriving())
        await form.begin()
        body = b"".join([bytes(piece) async for piece in form])
        return Parsed(body, form.file_name, form.content_type)

    return asyncio.run(main())


def outcome(pieces: Iterable[bytes]) -> Parsed | type[StoreError]:
    try:
        return parse(pieces)
    except StoreError as error:
        return type(error)


def cut(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    borders = [0, *sorted({at % (len(data) + 1) for at in cuts}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(borders)]


# Bytes that look like the syntax around them, so that a cut anywhere may hurt.
tricky = st.lists(
    st.sampled_from(
        [
            b"\r",
            b"\n",
            b"\r\n",
            b"-",
            b"--",
            BOUNDARY,
            b"\r\n--" + BOUNDARY[:-1],
            b":",
            b" ",
            b"x",
            b"\r\n--b",
            b"\x00",
            b"\xff",
        ]
    ),
    max_size=12,
).map(b"".join)
bodies = (tricky | st.binary(max_size=300)).filter(lambda body: b"\r\n--" + BOUNDARY not in body)
cuts_of = st.lists(st.integers(0, 5000), max_size=30)


@given(body=bodies, before=bodies, after=tricky, other=bodies, cuts=cuts_of)
@settings(max_examples=300, deadline=None)
def test_any_chunking_gives_the_same_file(
    body: bytes, before: bytes, after: bytes, other: bytes, cuts: list[int]
) -> None:
    if before.startswith(b"--" + BOUNDARY):
        before = b"x" + before
    form = before + b"\r\n" + part(other, 'form-data; name="a"') + part(body)
    form += part(other, 'form-data; name="z"') + END + after
    expected = Parsed(body, "", "")
    assert parse([form]) == expected
    assert parse(cut(form, cuts)) == expected
    assert parse([form[at : at + 1] for at in range(len(form))]) == expected


@given(
    form=st.lists(
        tricky | st.sampled_from([part(b"x"), part(b"y", "form-data; name=a"), END]), max_size=6
    ).map(b"".join),
    cuts=cuts_of,
)
@settings(max_examples=300, deadline=None)
def test_any_chunking_of_anything_comes_to_the_same(form: bytes, cuts: list[int]) -> None:
    assert outcome(cut(form, cuts)) == outcome([form])


@given(at=st.integers(0, 10_000), value=st.integers(0, 255), cuts=cuts_of)
@settings(max_examples=200, deadline=None)
def test_one_wrong_byte_is_either_told_or_the_files_own(
    at: int, value: int, cuts: list[int]
) -> None:
    form = bytearray(part(b"content", 'form-data; name="file"; filename="f"') + END)
    form[at % len(form)] = value
    assert outcome(cut(bytes(form), cuts)) == outcome([bytes(form)])


@given(st.integers(0, 10_000))
def test_a_form_that_ends_early_is_no_file(at: int) -> None:
    form = part(b"0123456789") + END[:-2]
    with pytest.raises((IncompleteBody, MalformedBody)):
        parse([form[: at % len(form)]])


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('form-data; name="file"', ""),
        ('form-data; name="file"; filename="a b.txt"', "a b.txt"),
        ("form-data; name=file; filename=plain.txt", "plain.txt"),
        ('form-data; name="file"; filename="ünï☃ 🎉.txt"', "ünï☃ 🎉.txt"),
        ('form-data; name="file"; filename="x"; filename*=UTF-8\'\'%E2%98%83.txt', "☃.txt"),
        ("form-data; filename*=utf-8'de'%c3%bc; name=\"file\"", "ü"),
        ("form-data; name=\"file\"; filename*=iso-8859-1''%FC", "ü"),
        ('form-data; name="file"; filename="x"; filename*=koi8-r\'\'%FC', "x"),
        (r'form-data; name="file"; filename="a\"b\\c;d.txt"', "c;d.txt"),
        ('form-data; name="file"; filename="say %22hi%22.txt"', 'say "hi".txt'),
        ('form-data; name="file"; filename="../../etc/passwd"', "passwd"),
        (r'form-data; name="file"; filename="C:\fakepath\photo.jpg"', "photo.jpg"),
        ('FORM-DATA; NAME="file"; FileName="f"', "f"),
        ('form-data; name="file"; filename="a;b=c"', "a;b=c"),
        ('form-data; name="file"; filename="a\tb\x00\x7f"', "ab"),
        ('form-data; name="file"; filename=".."', ""),
        ('form-data; name="file"; filename="a/. "', ""),
        ('form-data; name="file"; filename="..."', "..."),
        ('form-data; name="file"; filename=".x"', ".x"),
        ('form-data; name="file"; filename=" / "', ""),
    ],
)
def test_the_file_name_of_any_client(disposition: str, name: str) -> None:
    assert parse([part(b"x", disposition), END]) == Parsed(b"x", name, "")


def test_a_latin_1_name_is_read_as_such() -> None:
    form = part(b"x", 'form-data; name="file"; filename="??"').replace(b"??", b"\xfcx")
    assert parse([form, END]).file_name == "üx"


def test_a_name_may_be_long_but_not_endless() -> None:
    assert len(
        parse([part(b"x", f'form-data; name="file"; filename="{"n" * 1024}"'), END]).file_name
    )
    assert (
        outcome([part(b"x", f'form-data; name="file"; filename="{"n" * 1025}"'), END])
    ).__name__ == "InvalidArgument"


def test_the_content_type_of_the_part() -> None:
    typed = part(b"x", 'form-data; name="file"', "Content-Type: image/png")
    assert parse([typed, END]).content_type == "image/png"
    odd = part(b"x", 'form-data; name="file"', "Content-Type: ü\x01")
    assert parse([odd, END]).content_type == ""


@pytest.mark.parametrize(
    "boundary", ["b0undary", "-" * 26 + "12", "a'()+_,-./:=?z", "----WebKitFormBoundaryQ", "b" * 70]
)
@pytest.mark.parametrize("quoted", [False, True])
def test_boundaries_of_many_kinds(boundary: str, *, quoted: bool) -> None:
    declared = f'"{boundary}"' if quoted else boundary
    headers = {"Content-Type": f"Multipart/Form-Data; charset=utf-8; boundary={declared}"}
    form = (part(b"x" * 1000) + END).replace(BOUNDARY, boundary.encode())
    assert parse(cut(form, range(0, 2000, 7)), headers).body == b"x" * 1000


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "multipart/mixed; boundary=b0undary",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=ü",
        "multipart/form-data; boundary=" + "b" * 201,
        'multipart/form-data; boundary="a\\\r\nb"',
    ],
)
def test_what_is_no_form_is_refused(content_type: str) -> None:
    with pytest.raises(MalformedBody):
        parse([part(b"x"), END], {"Content-Type": content_type})


@pytest.mark.parametrize(
    "form",
    [
        b"",
        END,
        part(b"x", 'form-data; name="other"') + END,
        part(b"x", 'form-data; filename="file"') + END,
        part(b"x", "attachment") + END,
        part(b"x") + part(b"y") + END,
        b"no boundary at all",
        b"--" + BOUNDARY + b"not the end of the line\r\n",
        b"--" + BOUNDARY + b"\r\nno colon\r\n\r\nx\r\n" + END,
    ],
)
def test_forms_without_one_file_are_refused(form: bytes) -> None:
    with pytest.raises(MalformedBody):
        parse([form])


@pytest.mark.parametrize(
    ("form", "size_bytes"),
    [
        (b"x" * (BEFORE_BYTES_MAX - 2) + b"\r\n" + part(b"f") + END, 1),
        (b"x" * (BEFORE_BYTES_MAX - 1) + b"\r\n" + part(b"f") + END, None),
        (b"x" * (5 * BEFORE_BYTES_MAX), None),
        (part(b"o" * (BESIDE_BYTES_MAX - 300), "form-data; name=o") + part(b"f") + END, 1),
        (part(b"o" * BESIDE_BYTES_MAX, "form-data; name=o") + part(b"f") + END, None),
        (part(b"f") + part(b"o" * BESIDE_BYTES_MAX, "form-data; name=o") + END, None),
        (part(b"f") + END + b"e" * BESIDE_BYTES_MAX, None),
        (part(b"f") + END + b"e" * (BESIDE_BYTES_MAX - 300), 1),
        (part(b"f", "form-data; name=file", "X: " + "h" * (HEADER_BYTES_MAX - 100)) + END, 1),
        (part(b"f", "form-data; name=file", "X: " + "h" * HEADER_BYTES_MAX) + END, None),
        (part(b"f", "form-data; name=file", *["X: h"] * (HEADERS_MAX - 1)) + END, 1),
        (part(b"f", "form-data; name=file", *["X: h"] * HEADERS_MAX) + END, None),
        (part(b"f" * (3 * BESIDE_BYTES_MAX)) + END, 3 * BESIDE_BYTES_MAX),
    ],
)
@pytest.mark.parametrize("piece_bytes", [1000, 1 << 20, 1 << 23])
def test_all_but_the_file_is_bounded(form: bytes, size_bytes: int | None, piece_bytes: int) -> None:
    pieces = [form[at : at + piece_bytes] for at in range(0, len(form), piece_bytes)]
    found = outcome(pieces)
    if size_bytes is None:
        assert found is MalformedBody
    else:
        assert isinstance(found, Parsed) and len(found.body) == size_bytes


def test_others_have_their_turn_while_a_hostile_form_is_parsed() -> None:
    size_bytes = 1 << 20
    hostile = part(b"\r\n--b0undarX" * (size_bytes // 12)) + END
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def main() -> None:
        async def arriving() -> AsyncIterator[bytes]:
            yield hostile

        beside = asyncio.create_task(other())
        form = FormFile(FORM, arriving())
        assert sum([len(piece) async for piece in form]) == size_bytes // 12 * 12
        beside.cancel()

    asyncio.run(main())
    assert turns >= size_bytes // (128 * 1024)


def test_a_file_of_many_pieces_is_handed_on_as_it_comes() -> None:
    taken: list[int] = []

    async def endless() -> AsyncIterator[bytes]:
        yield part(b"")[:-2]
        while True:
            taken.append(len(taken))
            yield b"x" * 1_000_000

    async def main() -> None:
        form = FormFile(FORM, endless())
        await form.begin()
        size_bytes = 0
        async for piece in form:
            size_bytes += len(piece)
            assert size_bytes >= (len(taken) - 2) * 1_000_000
            if size_bytes > 50_000_000:
                return

    asyncio.run(main())
