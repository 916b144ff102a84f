"""Waiting for what is being added to an upload: until it has ended, or a bounded time."""

import asyncio

import pytest

from frontend.flows import under_way
from frontend.flows.under_way import UnderWay

UPLOAD = b"u" * 16


async def test_who_asks_waits_until_all_that_adds_has_ended():
    uploads = UnderWay()
    with uploads.adding(UPLOAD):
        with uploads.adding(UPLOAD):
            asking = asyncio.create_task(uploads.settle(UPLOAD))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not asking.done()
    await asking


async def test_other_uploads_are_not_waited_for():
    uploads = UnderWay()
    with uploads.adding(b"o" * 16):
        await uploads.settle(UPLOAD)


async def test_a_slow_one_is_waited_for_shortly(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(under_way, "SETTLE_S_MAX", 0.01)
    uploads = UnderWay()
    with uploads.adding(UPLOAD):
        await uploads.settle(UPLOAD)


async def test_an_upload_that_failed_is_not_under_way():
    uploads = UnderWay()
    with pytest.raises(ZeroDivisionError), uploads.adding(UPLOAD):
        raise ZeroDivisionError
    await uploads.settle(UPLOAD)
    assert uploads._ends == {}
