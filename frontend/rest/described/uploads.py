"""`/temp/...`: uploads of several requests, and bodies that wait for a confirmation."""

from typing import Annotated, Final

from msgspec import Meta

from frontend.openapi.shapes import (
    EXAMPLE_HANDLE,
    EXAMPLE_TIME,
    HELLO_HEX,
    Size,
)
from frontend.openapi.words import (
    NO_CREDENTIALS,
    Node,
    all_answers,
    answers_json,
    answers_nothing,
    fails,
    gives,
    in_header,
    in_path,
    leading_to,
    one_of,
    operation,
    path,
    preflight,
    sends_bytes,
    sends_json,
)
from frontend.rest.described.answers import Confirmed, Held, Stored, Waiting
from frontend.rest.described.objects import DIGESTS, KEPT, STORED, VERSION_HEADERS
from frontend.rest.temp import Confirmation

_Name = Annotated[str, Meta(min_length=1, max_length=1024)]
_WAITING: Final = Waiting(id=EXAMPLE_HANDLE, sha256=HELLO_HEX, size=11, expires_at=EXAMPLE_TIME)
_CONFIRMED: Final = Confirmed(name="report.pdf", version=1, sha256=HELLO_HEX, size=11)
_HANDLE_IS_RIGHT: Final[list[Node]] = [*NO_CREDENTIALS, {}, {"basic": []}, {"bearer": []}]
"""The handle in the path is the right; credentials may come along, and must then be good."""
_HELD_HEADERS: Final = {
    "Upload-Offset": gives(Size, "Bytes held."),
    "Upload-Length": gives(Size, "Bytes of the whole, where they are known.", always=False),
    "Upload-Complete": gives(str, "`?1` once it is a version.", always=False),
}


def upload_paths() -> dict[str, Node]:
    """POST takes an object's name there, all other methods an upload's handle."""
    place = in_path(
        "name_or_handle",
        _Name,
        "For POST the name of the object to be, for all others the handle of an upload.",
        example=EXAMPLE_HANDLE,
    )
    return {
        "/temp/{name_or_handle}": path(
            place,
            head=_also_at_a_daemon(_head()),
            put=_put(),
            post=_also_at_a_daemon(_post()),
            patch=_also_at_a_daemon(_patch()),
            delete=_also_at_a_daemon(_delete()),
            options=preflight("mayGoOn", "uploads"),
        )
    }


def _also_at_a_daemon(found: Node) -> Node:
    """A blob daemon answers it too, on its own port; only there is what it took."""
    daemon: Node = {
        "url": "http://{blob_daemon}",
        "description": "A blob daemon: what was posted there is confirmed there, with an access "
        "key that may upload; the handle alone is no right.",
        "variables": {
            "blob_daemon": {
                "default": "localhost:9201",
                "description": "Its address, as `/v1/cluster` names it.",
            }
        },
    }
    # Tools take the first one unless told otherwise.
    return {**found, "servers": [{"url": "/", "description": "Any frontend."}, daemon]}


def _post() -> Node:
    headers = {"Location": gives(str, "`/temp/ID`: what to PATCH.")}
    return operation(
        "sendTemp",
        "uploads",
        "Send a whole body that waits for its confirmation",
        all_answers(
            {"201": _confirmable(answers_json("Held, unseen.", Waiting, _WAITING, headers))},
            fails(400, 401, 403, 404, 409, 413, 500, 503, 507),
        ),
        says="The same request works at a blob daemon, which keeps the body until its PATCH.",
        parameters=[*DIGESTS, *KEPT],
        body=sends_bytes("The object's bytes."),
    )


def _confirmable(waiting: Node) -> Node:
    for following in ("confirmTemp", "readProgress", "giveUploadUp"):
        waiting = leading_to(waiting, following, name_or_handle="$response.body#/id")
    return waiting


def _head() -> Node:
    return operation(
        "readProgress",
        "uploads",
        "How much of an upload is held",
        all_answers(
            {"200": answers_nothing("In the headers.", _HELD_HEADERS)},
            _bare(400, 401, 403, 404, 500, 503),
        ),
        security=_HANDLE_IS_RIGHT,
    )


def _bare(*statuses: int) -> dict[str, Node]:
    return {str(s): {"$ref": f"#/components/responses/Bare{s}"} for s in statuses}


def _put() -> Node:
    offset = {"Upload-Offset": gives(Size, "Bytes held.")}
    return operation(
        "continueUpload",
        "uploads",
        "Add bytes to an upload; the last of them make the version",
        all_answers(
            {
                "200": answers_json(
                    "Held; or, with the last byte, stored.", one_of(Held, Stored), STORED, offset
                )
            },
            fails(400, 401, 403, 404, 409, 412, 413, 416, 422, 500, 503, 507),
        ),
        says="A wrong offset is answered by 416 with the right one in `Upload-Offset`.",
        parameters=[
            in_header("Upload-Offset", Size, "Where the body goes.", example=0),
            in_header("Range", str, "`bytes=OFFSET-`: the same.", example="bytes=0-"),
        ],
        body=sends_bytes("The bytes at that offset."),
        security=_HANDLE_IS_RIGHT,
    )


def _patch() -> Node:
    return operation(
        "confirmTemp",
        "uploads",
        "Make a waiting body an object",
        all_answers(
            {
                "200": answers_json(
                    "A version; the same however often it is asked.",
                    Confirmed,
                    _CONFIRMED,
                    VERSION_HEADERS,
                )
            },
            fails(400, 401, 403, 404, 409, 412, 413, 422, 500, 503, 507),
        ),
        body=sends_json(
            "What to assert; may be empty.",
            Confirmation,
            Confirmation(sha256=HELLO_HEX, size=11),
            required=False,
        ),
        security=_HANDLE_IS_RIGHT,
    )


def _delete() -> Node:
    return operation(
        "giveUploadUp",
        "uploads",
        "Give an upload up",
        all_answers({"204": answers_nothing("Gone.")}, fails(400, 401, 403, 404, 409, 500, 503)),
        security=_HANDLE_IS_RIGHT,
    )
