"""Names are parsed once, at the edge, and say which rule they break."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osscore.errors import InvalidName
from osscore.names import BucketName, ObjectKey, birth_ms, stripe_id, version_id


@pytest.mark.parametrize("text", ["abc", "my-bucket", "a.b.c", "0" * 63, "1.2.3.x"])
def test_bucket_names_that_are_allowed(text):
    assert BucketName.parse(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "ab", "0" * 64, "Abc", "a_b", "-ab", "ab-", ".ab", "a..b", "1.2.3.4", "abc\n", "käse"],
)
def test_bucket_names_that_are_not(text):
    with pytest.raises(InvalidName):
        BucketName.parse(text)


@given(st.text(min_size=1, max_size=200).filter(lambda text: "\0" not in text))
def test_any_short_utf8_text_is_an_object_key(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        with pytest.raises(InvalidName):
            ObjectKey.parse(text)
    else:
        assert ObjectKey.parse(text) == text


@pytest.mark.parametrize("text", ["", "a\0b", "x" * 1025, "ä" * 513, "\ud800"])
def test_object_keys_that_are_not_allowed(text):
    with pytest.raises(InvalidName):
        ObjectKey.parse(text)


def test_the_longest_object_key():
    assert ObjectKey.parse("ä" * 512) == "ä" * 512


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_a_stripe_id_keeps_its_birth(born_ms, entropy):
    stripe = stripe_id(born_ms, entropy)
    assert len(stripe) == 16
    assert birth_ms(stripe) == born_ms


@given(st.lists(st.tuples(st.integers(0, 2**47), st.integers(0, 65_535)), min_size=2))
def test_version_ids_sort_by_age(places):
    assert sorted(places) == sorted(places, key=lambda place: version_id(*place))
