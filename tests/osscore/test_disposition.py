"""File names for browsers: nothing in a name gets out of its quotes."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osscore.disposition import content_disposition, file_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain.txt", 'inline; filename="plain.txt"'),
        ("with space (1).txt", 'inline; filename="with space (1).txt"'),
        ('a"b', "inline; filename=\"a_b\"; filename*=UTF-8''a%22b"),
        ("100%", "inline; filename=\"100_\"; filename*=UTF-8''100%25"),
        ("Zürich ☃", "inline; filename=\"Z_rich _\"; filename*=UTF-8''Z%C3%BCrich%20%E2%98%83"),
        ("a\r\nX: y", "inline; filename=\"a__X_ y\"; filename*=UTF-8''a%0D%0AX%3A%20y"),
        ("a\\b", "inline; filename=\"a_b\"; filename*=UTF-8''a%5Cb"),
    ],
)
def test_names_in_the_header(name: str, expected: str) -> None:
    assert content_disposition("inline", name) == expected


@given(name=st.text(min_size=1, max_size=60))
def test_any_name_is_told_whole_and_stays_in_its_place(name: str) -> None:
    value = content_disposition("attachment", name)
    match = re.fullmatch(r"attachment; filename=\"([ -~]*)\"(?:; filename\*=UTF-8''(\S*))?", value)
    assert match and '"' not in match[1] and "\\" not in match[1]
    told = match[1] if match[2] is None else unquote(match[2])
    assert told == name.encode(errors="replace").decode()


@pytest.mark.parametrize(
    ("key", "expected"),
    [("a/b/c.txt", "c.txt"), ("c.txt", "c.txt"), ("folder/", "folder"), ("///", "download")],
)
def test_the_file_is_called_like_the_end_of_its_key(key: str, expected: str) -> None:
    assert file_name(key) == expected
    assert len(file_name("x" * 1024)) == 255
