"""One line an event, with the request id, whatever is logged."""

import io
import json
import logging
import warnings

import pytest

from ossd import logs
from tests.fakes.clock import ManualClock


@pytest.fixture
def lines():
    """Logs into a buffer; puts the root logger back afterwards."""
    root = logging.getLogger()
    before = list(root.handlers), root.level
    stream = io.StringIO()

    def start(form: str) -> io.StringIO:
        logs.setup(form, stream)
        return stream

    yield start
    root.handlers[:], level = before
    root.setLevel(level)
    logging.captureWarnings(False)


def test_a_json_line_has_the_event_its_fields_and_the_request_id(lines):
    stream = lines("json")
    token = logs.request_id.set("r-9")
    logging.getLogger("blobd.disks").warning(
        "shard_quarantined", extra={"disk": "ab", "count": 3, "path": object}
    )
    logs.request_id.reset(token)
    found = json.loads(stream.getvalue())
    assert found["time"].endswith("Z")
    assert (found["level"], found["logger"]) == ("warning", "blobd.disks")
    assert (found["event"], found["request_id"]) == ("shard_quarantined", "r-9")
    assert (found["disk"], found["count"], found["path"]) == ("ab", 3, str(object))


def test_an_exception_stays_within_its_json_line(lines):
    stream = lines("json")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("x").exception("bug")
    assert stream.getvalue().count("\n") == 1
    assert "ValueError: two\nlines" in json.loads(stream.getvalue())["exception"]


def test_text_is_for_people(lines):
    stream = lines("text")
    token = logs.request_id.set("r-9")
    logging.getLogger("x").info("started on %s", "port", extra={"port": 1})
    logs.request_id.reset(token)
    assert "info    x started on port request_id=r-9 port=1\n" in stream.getvalue()
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("x").exception("bug")
    assert "ValueError: bad" in stream.getvalue()


def test_setting_up_twice_does_not_log_twice(lines):
    lines("json")
    stream = lines("json")
    logging.getLogger("x").info("once")
    assert stream.getvalue().count("once") == 1


def test_warnings_are_log_lines(lines):
    stream = lines("json")
    warnings.warn("old way", stacklevel=1)
    assert "old way" in json.loads(stream.getvalue())["event"]


def test_once_lets_a_key_through_once_an_interval():
    clock = ManualClock()
    once = logs.Once(clock, interval_s=10)
    assert [once.first("a"), once.first("a"), once.first("b")] == [True, False, True]
    clock.advance(10)
    assert once.first("a")


def test_once_forgets_the_oldest_key_beyond_its_bound():
    once = logs.Once(ManualClock(), keys_max=2)
    for key in ("a", "b", "c"):
        assert once.first(key)
    assert not once.first("c")
    assert once.first("a")
