"""The token dialect, described for machines: what each handler takes and answers.

tests/openapi hold it to the routes, and every answer that the tests of the handlers get to what
is said here.
"""

from typing import Annotated, Any, Final

from msgspec import Meta

from frontend.openapi.failures import says_of
from frontend.openapi.shapes import HELLO_HEX, Count, RequestId, Sha256Hex, Shape, Size
from frontend.openapi.words import (
    JSON,
    Node,
    all_answers,
    answers,
    answers_json,
    answers_nothing,
    gives,
    in_header,
    in_query,
    operation,
    path,
    preflight,
    sends_json,
)
from frontend.tokens.codes import TABLE
from frontend.tokens.server import NewToken

_FORM: Final = "application/x-www-form-urlencoded"
_HashText = Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$")]

SCHEMES: Final[dict[str, Node]] = {
    "systemToken": {
        "type": "apiKey",
        "in": "header",
        "name": "systemToken",
        "description": "The system token. An access key with the right for bucket `files` does.",
    },
    "token": {
        "type": "apiKey",
        "in": "header",
        "name": "token",
        "description": "A token for one content; also as `Authorization: Bearer TOKEN`.",
    },
    "tokenInLink": {"type": "apiKey", "in": "query", "name": "token"},
}
_OF_SYSTEM: Final[list[Node]] = [{"systemToken": []}, {"basic": []}, {"bearer": []}]
_OF_HOLDER: Final[list[Node]] = [{"token": []}, {"bearer": []}]
_OF_LINK: Final[list[Node]] = [*_OF_HOLDER, {"tokenInLink": []}]
_OF_BOTH: Final[list[Node]] = [{**system, "token": []} for system in _OF_SYSTEM]


class Done(Shape, frozen=True):
    """It was done."""

    status: str


class DoneAnswer(Shape, frozen=True):
    """The envelope of an answer without more to say."""

    status: bool
    code: int
    msg: str
    data: Done


class MintedToken(Shape, frozen=True):
    """A token for one content."""

    token: str


class MintedAnswer(Shape, frozen=True):
    """Its envelope."""

    status: bool
    code: int
    msg: str
    data: MintedToken


class Progress(Shape, frozen=True):
    """The chunks that are held; `speed` is their count as text."""

    status: str
    speed: str
    received: list[Count]
    count: Count


class ProgressAnswer(Shape, frozen=True):
    """Its envelope."""

    status: bool
    code: int
    msg: str
    data: Progress


class Active(Shape, frozen=True):
    """A host for each living blob daemon."""

    status: str
    ips: list[str]
    count: Count


class ActiveAnswer(Shape, frozen=True):
    """Its envelope."""

    status: bool
    code: int
    msg: str
    data: Active


class FileInfo(Shape, frozen=True):
    """A file; `create_time` in Unix seconds, `server_ip` the hosts that hold it."""

    size: Size
    name: str
    hash: Sha256Hex
    create_time: Count
    server_ip: list[str]


class FileInfoAnswer(Shape, frozen=True):
    """Its envelope."""

    status: bool
    code: int
    msg: str
    data: FileInfo


class TokenFailure(Shape, frozen=True):
    """The body of every answer of the token API that is an error."""

    status: bool
    code: Annotated[int, Meta(ge=5500, le=5599, description="See docs/token-api.md.")]
    msg: str
    data: None


_SUCCESS: Final = {"status": "success"}
_DONE: Final[dict[str, Any]] = {
    "status": True,
    "code": 200,
    "msg": "",
    "data": {"status": "success"},
}


def token_responses() -> dict[str, Node]:
    """Components: `Told404`, the errors of that status as this dialect tells them."""
    # 405 follows from what is described.
    statuses = sorted({told.http_status for told in TABLE.values()} - {405})
    return {f"Told{status}": _told(status) for status in statuses}


def token_paths() -> dict[str, Node]:
    """In the order in which a reader wants them."""
    return {
        "/upload/token": path(get=_mint("Upload"), post=_mint_by_form("Upload"), head=None),
        "/download/token": path(get=_mint("Download"), post=_mint_by_form("Download"), head=None),
        "/upload/single": path(post=_single(), options=preflight("maySendFile", "tokens")),
        "/upload/chuck": path(
            post=_chunk("chuck", "sendChuck"), options=preflight("maySendChuck", "tokens")
        ),
        "/upload/chunk": path(
            post=_chunk("chunk", "sendChunk"), options=preflight("maySendChunk", "tokens")
        ),
        "/upload/finish": path(get=_finish(), post=_finish_by_form(), head=None),
        "/download": path(get=_download(), options=preflight("mayDownload", "tokens")),
        "/file/info": path(get=_info()),
        "/file": path(delete=_remove()),
        "/server/token": path(put=_set_system_token()),
        "/server/active": path(get=_active()),
    }


def _told(status: int) -> Node:
    rows = [(kind, told) for kind, told in TABLE.items() if told.http_status == status]
    codes = sorted({told.code for _, told in rows})
    example = {"status": False, "code": codes[0], "msg": rows[0][0]().message, "data": None}
    headers = {"X-Request-Id": gives(RequestId, "Also in the logs.")}
    if status == 401:
        headers["WWW-Authenticate"] = gives(str, "`Bearer`.")
    if status in (503, 507):
        headers["Retry-After"] = gives(int, "Seconds.")
    says = f"{says_of(status)} Code {' or '.join(map(str, codes))}, or one that says more."
    return answers(says, {JSON: {"schema": TokenFailure, "example": example}}, headers)


def _tells(*statuses: int) -> dict[str, Node]:
    always = (401, 403, 500, 503)
    return {str(s): {"$ref": f"#/components/responses/Told{s}"} for s in {*statuses, *always}}


def _done() -> dict[str, Node]:
    return {"200": answers_json("Done.", DoneAnswer, _DONE)}


def _enveloped(data: dict[str, Any]) -> dict[str, Any]:
    return {**_DONE, "data": data}


# --- tokens ------------------------------------------------------------------------------------


def _mint(kind: str) -> Node:
    return operation(
        f"mint{kind}Token",
        "tokens",
        f"A token that may {kind.lower()} one content",
        all_answers({"200": _minted(kind)}, _tells(400)),
        parameters=[
            in_query("hash", _HashText, "SHA-256 in hex.", example=HELLO_HEX, required=True),
            in_query("ttl", Annotated[int, Meta(ge=1, le=2_592_000)], "Seconds; a day."),
            in_query("max_size", Size, "Bytes that may be sent; 0: any."),
        ],
        security=_OF_SYSTEM,
    )


def _mint_by_form(kind: str) -> Node:
    fields = {"hash": {"type": "string"}, "ttl": {"type": "string"}, "max_size": {"type": "string"}}
    return operation(
        f"mint{kind}TokenByForm",
        "tokens",
        f"The same by a form: a token that may {kind.lower()} one content",
        all_answers({"200": _minted(kind)}, _tells(400, 413)),
        body=_form(fields, ["hash"], {"hash": HELLO_HEX}),
        security=_OF_SYSTEM,
    )


def _minted(kind: str) -> Node:
    example = _enveloped({"token": "eyJ0b2tlbl90eXBlIjox..."})
    return answers_json(f"For {kind.lower()}.", MintedAnswer, example)


def _form(fields: dict[str, Node], required: list[str], example: dict[str, str]) -> Node:
    schema = {"type": "object", "properties": fields, "required": required}
    return {"required": False, "content": {_FORM: {"schema": schema, "example": example}}}


# --- uploads -----------------------------------------------------------------------------------


def _sends_file() -> Node:
    file: Node = {"type": "string", "contentMediaType": "application/octet-stream"}
    schema = {"type": "object", "properties": {"file": file}, "required": ["file"]}
    return {
        "description": "Part `file` is the content, its file name the name; streamed.",
        "required": True,
        "content": {"multipart/form-data": {"schema": schema}},
    }


def _single() -> Node:
    return operation(
        "sendFile",
        "tokens",
        "Send a whole file",
        all_answers(_done(), _tells(400, 413, 422, 507)),
        says="What is stored already succeeds at once.",
        body=_sends_file(),
        security=_OF_HOLDER,
    )


def _chunk(argument: str, name: str) -> Node:
    progress = {"status": "success", "speed": "2", "received": [0, 1], "count": 2}
    number = Annotated[int, Meta(ge=0, le=10_000)]
    return operation(
        name,
        "tokens",
        "Send one chunk of a file",
        all_answers(
            {"200": answers_json("Held.", ProgressAnswer, _enveloped(progress))},
            _tells(400, 409, 413, 422, 507),
        ),
        says="In any order, to any frontend; numbers count from 0 or from 1 without a gap.",
        parameters=[
            in_query(argument, number, "Which chunk.", example=0, required=True),
            in_query(f"{argument}_hash", _HashText, "SHA-256 of this chunk, in hex: checked."),
            in_query("replace", str, "`1`: also over one that is held.", example="1"),
        ],
        body=_sends_file(),
        security=_OF_HOLDER,
    )


def _finish() -> Node:
    return operation(
        "finishFile",
        "tokens",
        "Make the file of its chunks",
        all_answers(_done(), _tells(400, 409, 413, 422, 507)),
        parameters=[in_query("file_name", str, "Its name.", example="big.tar", required=True)],
        security=_OF_BOTH,
    )


def _finish_by_form() -> Node:
    return operation(
        "finishFileByForm",
        "tokens",
        "The same by a form: make the file of its chunks",
        all_answers(_done(), _tells(400, 409, 413, 422, 507)),
        body=_form({"file_name": {"type": "string"}}, ["file_name"], {"file_name": "big.tar"}),
        security=_OF_BOTH,
    )


# --- files -------------------------------------------------------------------------------------


def _download() -> Node:
    whole: Node = {"*/*": {"schema": {}}}
    headers = {
        "Etag": gives(str, "The quoted hash."),
        "Accept-Ranges": gives(str, "`bytes`."),
        "Content-Disposition": gives(str, "`attachment`, with the file's name."),
        "X-Content-Type-Options": gives(str, "`nosniff`."),
        "Cache-Control": gives(str, "`private, no-cache`."),
    }
    part = {**headers, "Content-Range": gives(str, "`bytes FIRST-LAST/SIZE`.")}
    return operation(
        "download",
        "tokens",
        "The bytes of a file, or a range of them",
        all_answers(
            {
                "200": answers("The whole file.", whole, headers),
                "206": answers("The range.", whole, part),
                "304": answers_nothing("What the client has is current.", headers),
            },
            _tells(404, 412, 416),
        ),
        parameters=[
            in_header("Range", str, "One range of bytes.", example="bytes=0-99"),
            in_header("If-Range", str, "The Range counts only for this entity tag or date."),
            in_header("If-None-Match", str, "Else 304."),
            in_header("If-Match", str, "Else 412."),
        ],
        security=_OF_LINK,
    )


def _info() -> Node:
    info = {
        "size": 11,
        "name": "hello.txt",
        "hash": HELLO_HEX,
        "create_time": 1_772_366_400,
        "server_ip": ["10.0.0.2"],
    }
    return operation(
        "showFile",
        "tokens",
        "Size, name, age and whereabouts of a file",
        all_answers({"200": answers_json("It.", FileInfoAnswer, _enveloped(info))}, _tells(404)),
        security=_OF_BOTH,
    )


def _remove() -> Node:
    return operation(
        "removeFile",
        "tokens",
        "Remove a file and its chunks for good",
        all_answers(_done(), _tells(404, 409)),
        security=_OF_BOTH,
    )


# --- the system --------------------------------------------------------------------------------


def _set_system_token() -> Node:
    return operation(
        "replaceSystemToken",
        "tokens",
        "Replace the system token; the former one is refused from here on",
        all_answers(_done(), _tells(400, 413)),
        body=sends_json(
            "20 to 200 visible ASCII characters.",
            NewToken,
            NewToken(token="at-least-twenty-characters"),
        ),
        security=_OF_SYSTEM,
    )


def _active() -> Node:
    active = {"status": "success", "ips": ["10.0.0.2", "10.0.0.3"], "count": 2}
    return operation(
        "listActive",
        "tokens",
        "The hosts of the living blob daemons",
        all_answers(
            {"200": answers_json("One for each.", ActiveAnswer, _enveloped(active))}, _tells()
        ),
        security=_OF_SYSTEM,
    )
