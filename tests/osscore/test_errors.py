"""The error tree: three families, one name each, and the way over the wire and back."""

import pytest

from osscore import errors
from osscore.errors import Corrupt, RequestError, StoreError, Unavailable, from_code, leaves

OURS = [kind for kind in vars(errors).values() if isinstance(kind, type)]


def descendants(kind: type) -> list[type]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in descendants(child))]


def test_every_error_of_the_module_has_a_name_of_its_own():
    tree = [kind for kind in descendants(StoreError) if kind.__module__ == errors.__name__]
    names = [kind.__name__ for kind in tree]
    assert len(names) == len(set(names))
    assert set(tree) == {kind for kind in OURS if issubclass(kind, StoreError)}
    assert set(names) <= set(leaves())


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_an_error_comes_back_from_its_code(kind):
    rebuilt = from_code(kind("why").code, "why")
    assert type(rebuilt) is kind
    assert rebuilt.message == "why"
    assert rebuilt.code == kind.__name__


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_error_explains_itself_and_belongs_to_one_family(kind):
    assert kind().message.endswith(".")
    families = [
        family for family in (RequestError, Unavailable, Corrupt) if issubclass(kind, family)
    ]
    assert len(families) == (0 if kind is StoreError else 1)


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_the_http_status_fits_the_family(kind):
    status = kind.http_status
    if issubclass(kind, RequestError):
        assert 400 <= status < 500
    elif kind is not errors.NotLeader:  # 421: asked of the wrong server, ask another
        assert 500 <= status < 600


def test_an_unknown_code_is_a_plain_store_error():
    assert type(from_code("NobodyKnows", "hm")) is StoreError


def test_facts_are_attributes():
    assert errors.InvalidRange(size_bytes=7).size_bytes == 7
    assert errors.MethodNotAllowed(allow=("GET",)).allow == ("GET",)
    assert errors.NotLeader(leader_url="http://x").leader_url == "http://x"
    assert errors.StripeUnreadable(stripe_id="ab").stripe_id == "ab"
