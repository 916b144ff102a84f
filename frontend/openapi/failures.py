"""The error tree as answers: one for each HTTP status, which lists the codes that have it."""

from typing import Final

from frontend.openapi.shapes import Error, ErrorDetail, RequestId
from frontend.openapi.words import JSON, Node, answers, gives
from osscore.errors import StoreError, leaves

INTERNAL: Final = frozenset(
    {
        "StoreError", "RequestError", "NotLeader", "ShardConflict", "StaleOrder", "AlreadyFormed",
        "DiskRefused", "NoSuchShard", "CommandTooLarge", "SessionExpired", "UnderReplicated",
        "StaleStripe", "UploadOutOfOrder", "NoSuchStripe", "KeyChanged",
    }
)  # fmt: skip
"""Codes that only other processes of the cluster meet, or that stand for their family."""

_SAYS: Final = {
    400: "The request is not as it must be.",
    401: "It needs valid credentials.",
    403: "These credentials do not permit it.",
    404: "There is nothing of that name.",
    409: "It contradicts what is already there.",
    411: "It needs a Content-Length.",
    412: "A condition of the request does not hold.",
    413: "The body is larger than allowed.",
    416: "No byte of the range lies inside, or an upload stands elsewhere.",
    422: "The content is not what was promised.",
    500: "A fault of the store, or damaged bytes, which are never served.",
    503: "Not now; the same request may be sent again.",
    507: "The disks are full; reads and deletes go on.",
}
_REQUEST_ID = gives(RequestId, "As sent with the request if it was well formed, else made up.")
_HEADERS: Final[dict[int, dict[str, Node]]] = {
    401: {"WWW-Authenticate": gives(str, "How to prove who one is.")},
    416: {
        "Content-Range": gives(str, "`bytes */SIZE`: the size of what the range was asked of."),
        "Upload-Offset": gives(int, "For uploads: where to go on.", always=False),
    },
    503: {"Retry-After": gives(int, "Seconds.")},
    507: {"Retry-After": gives(int, "Seconds.")},
}


def failures() -> dict[str, Node]:
    """Components: `Failed404` with the error as JSON, `Bare404` for HEAD."""
    found: dict[str, Node] = {}
    for status in _SAYS:
        found[f"Failed{status}"] = _failed(status)
        found[f"Bare{status}"] = answers(_SAYS[status], {}, _headers(status))
    return found


def says_of(status: int) -> str:
    """What that status means, in a sentence."""
    return _SAYS[status]


def codes_of(status: int) -> list[str]:
    """The codes that users may meet with that status."""
    named = sorted(leaves().items())
    return [c for c, kind in named if kind.http_status == status and c not in INTERNAL] or [
        StoreError.__name__
    ]


def _failed(status: int) -> Node:
    codes, kinds = codes_of(status), leaves()
    lines = [f"* `{code}`: {kinds[code]().message}" for code in codes]
    example = Error(
        error=ErrorDetail(code=codes[0], message=kinds[codes[0]]().message, request_id="5f0c1a2b")
    )
    content = {JSON: {"schema": Error, "example": example}}
    return answers("\n".join([_SAYS[status], "", *lines]), content, _headers(status))


def _headers(status: int) -> dict[str, Node]:
    return {"X-Request-Id": _REQUEST_ID, **_HEADERS.get(status, {})}
