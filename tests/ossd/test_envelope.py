"""Every error crosses the wire and comes back as itself."""

import json

import pytest

from osscore import errors
from osscore.errors import StoreError
from ossd.envelope import error_body, error_of_status, parse_error


@pytest.mark.parametrize("kind", errors.leaves().values())
def test_every_error_comes_back_as_itself(kind):
    body = error_body(kind("what a person reads"), "r-1")
    back = parse_error(kind.http_status, body)
    assert type(back) is kind
    assert back.message == "what a person reads"
    assert json.loads(body)["error"]["request_id"] == "r-1"


@pytest.mark.parametrize("kind", errors.leaves().values())
def test_every_error_has_words_of_its_own(kind):
    assert parse_error(kind.http_status, error_body(kind(), "")).message == kind().message


@pytest.mark.parametrize(
    ("error", "fact"),
    [
        (errors.NotLeader(leader_url="http://m2:9101"), "leader_url"),
        (errors.NotLeader(), "leader_url"),
        (errors.InvalidRange(size_bytes=5), "size_bytes"),
        (errors.StripeUnreadable(stripe_id="ab"), "stripe_id"),
        (errors.MethodNotAllowed(allow=("GET", "PUT")), "allow"),
    ],
)
def test_facts_come_back(error, fact):
    back = parse_error(error.http_status, error_body(error, "r"))
    assert getattr(back, fact) == getattr(error, fact)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'"error"',
        b'{"error": 7}',
        b'{"error": {"code": "NoSuchKey"}}',
        b'{"error": ["code", "message"]}',
        b"\xff\xfe",
        b"null",
    ],
)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, errors.NotFound),
        (503, errors.Unavailable),
        (418, errors.RequestError),
        (599, StoreError),
    ],
)
def test_a_body_that_is_no_envelope_is_judged_by_its_status(body, status, kind):
    assert type(parse_error(status, body)) is kind


def test_a_newer_peers_code_is_judged_by_its_status_and_kept_in_the_message():
    body = b'{"error": {"code": "Brewing", "message": "tea", "request_id": ""}}'
    error = parse_error(503, body)
    assert type(error) is errors.Unavailable
    assert error.message == "Brewing: tea"


def test_a_fact_of_the_wrong_type_is_ignored():
    fields = {"code": "InvalidRange", "message": "", "size_bytes": "many", "allow": 5}
    error = parse_error(416, json.dumps({"error": fields}).encode())
    assert isinstance(error, errors.InvalidRange)
    assert error.size_bytes == 0


def test_a_bare_status_keeps_the_status_in_words():
    assert "418" in error_of_status(418).message
