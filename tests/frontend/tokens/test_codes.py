"""Every error has a status and a number, and they agree with the rest of the product."""

import re
from pathlib import Path

from frontend.tokens import codes
from frontend.tokens.codes import TABLE, told
from osscore import errors
from osscore.errors import StoreError

DOCUMENT = Path(__file__).parents[3] / "docs" / "token-api.md"
TOLD_OTHERWISE = {errors.BadDigest: 422, errors.NotLeader: 503}
"""Statuses that are another product's business (BadDigest is told as ContentMismatch is), or
nobody's outside the cluster."""


def test_the_table_covers_every_error() -> None:
    for kind in errors.leaves().values():
        row = told(kind())
        assert row.http_status == TOLD_OTHERWISE.get(kind, kind.http_status), kind
        # A new family must not fall through to "internal" unseen.
        assert kind is StoreError or row is not TABLE[StoreError], kind


def test_the_numbers_are_those_of_the_older_store() -> None:
    known = {5500, 5502, 5521, 5523, 5524, 5531, 5533, 5541, 5543, 5544, 5545, 5546, 5547, 5549}
    constants = {value for value in vars(codes).values() if isinstance(value, int)}
    assert constants == known
    assert {row.code for row in TABLE.values()} <= known
    documented = {int(code) for code in re.findall(r"^\| (55\d\d) \|", DOCUMENT.read_text(), re.M)}
    assert documented == known


def test_families_are_told_by_what_a_caller_can_do() -> None:
    for kind, row in TABLE.items():
        if issubclass(kind, errors.Unavailable):
            assert row.http_status in (503, 507)
        elif issubclass(kind, errors.RequestError):
            assert 400 <= row.http_status < 500
        else:
            assert row.http_status == 500
