"""Errors on the wire: `{"error": {"code", "message", "request_id", ...facts}}`.

The code is the class name in `osscore.errors`; facts are the attributes an error carries
beyond its message (`leader_url`, `size_bytes`, ...). `parse_error` rebuilds the same class
with the same facts, so that an error raised in one process can be caught by its class in
another. A body that is no envelope, from a proxy say, is judged by its status alone.
"""

import msgspec

from osscore import errors
from osscore.errors import StoreError, from_code

CONTENT_TYPE = "application/json"
MESSAGE_CHARS_MAX = 2000

_FIXED = frozenset({"code", "message", "request_id"})

_BY_STATUS: dict[int, type[StoreError]] = {
    400: errors.InvalidArgument,
    401: errors.Unauthenticated,
    403: errors.AccessDenied,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    409: errors.Conflict,
    411: errors.LengthRequired,
    412: errors.PreconditionFailed,
    413: errors.EntityTooLarge,
    416: errors.InvalidRange,
    421: errors.NotLeader,
    422: errors.ContentMismatch,
    429: errors.Overloaded,
    502: errors.OutcomeUnknown,
    503: errors.Unavailable,
    504: errors.OutcomeUnknown,
    507: errors.DiskFull,
}


def error_body(error: StoreError, request_id: str) -> bytes:
    """The JSON a caller receives for `error`."""
    facts = {name: value for name, value in vars(error).items() if name not in _FIXED}
    fields = {"code": error.code, "message": error.message, "request_id": request_id}
    return msgspec.json.encode({"error": {**fields, **facts}})


def parse_error(status: int, body: bytes) -> StoreError:
    """The error a peer answered with; never raises, whatever the body is."""
    try:
        fields = msgspec.json.decode(body)["error"]
        code, message = str(fields["code"]), str(fields["message"])[:MESSAGE_CHARS_MAX]
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError):
        return error_of_status(status)
    error = from_code(code, message)
    if type(error) is StoreError and code != StoreError.__name__:
        # A newer peer's code: its status still tells what a caller can do about it.
        error = error_of_status(status, f"{code}: {message}")
    _restore_facts(error, fields)
    return error


def error_of_status(status: int, message: str = "") -> StoreError:
    """The closest error for a bare status."""
    kind = _BY_STATUS.get(status, errors.RequestError if status < 500 else StoreError)
    return kind(message or f"The answer was a bare HTTP status {status}.")


def _restore_facts(error: StoreError, fields: dict[str, object]) -> None:
    for name, default in list(vars(error).items()):
        value = fields.get(name)
        if isinstance(default, tuple):
            if isinstance(value, list):
                setattr(error, name, tuple(value))
        elif value is not None and (default is None or type(value) is type(default)):
            setattr(error, name, value)
