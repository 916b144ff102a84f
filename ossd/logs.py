"""One log line an event, JSON on stdout; `text` for people.

::

    log = logging.getLogger(__name__)
    log.warning("shard_quarantined", extra={"disk": disk.hex(), "stripe": stripe.hex()})

The request id comes from a context variable, so every line a request causes carries it.
"""

import contextvars
import logging
import traceback
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from ossd.clock import Clock

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
"""Id of the request being served; empty outside of one."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def setup(format: str, stream: TextIO, *, level: str = "INFO") -> None:
    """Send every log line of this process to `stream`; `format` is "json" or "text"."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextLines() if format == "text" else JsonLines())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(True)


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: object) -> str:
    return str(value)


class JsonLines(logging.Formatter):
    """time, level, logger, event, request_id, then the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object, without a line break inside."""
        fields: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if current := request_id.get():
            fields["request_id"] = current
        fields |= _extras(record)
        if record.exc_info and record.exc_info[0] is not None:
            fields["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return msgspec.json.encode(fields, enc_hook=_plain).decode()


class TextLines(logging.Formatter):
    """The same for people: `12:00:01.234 warning blobd.disks shard_quarantined disk=ab`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it if there is one."""
        extras = _extras(record)
        if current := request_id.get():
            extras = {"request_id": current, **extras}
        pairs = "".join(f" {name}={value}" for name, value in extras.items())
        level = record.levelname.lower()
        line = f"{_time(record)[11:]} {level:7} {record.name} {record.getMessage()}{pairs}"
        if record.exc_info and record.exc_info[0] is not None:
            line += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return line


class Once:
    """Lets an event through once per key and interval, for what may repeat without end."""

    def __init__(self, clock: Clock, *, interval_s: float = 600, keys_max: int = 1024) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._keys_max = keys_max
        self._last_s: dict[str, float] = {}

    def first(self, key: str) -> bool:
        """Whether `key` was not let through within the interval."""
        now_s = self._clock.monotonic_s()
        last_s = self._last_s.get(key)
        if last_s is not None and now_s - last_s < self._interval_s:
            return False
        self._last_s.pop(key, None)
        if len(self._last_s) >= self._keys_max:
            del self._last_s[next(iter(self._last_s))]  # the one longest ago
        self._last_s[key] = now_s
        return True
