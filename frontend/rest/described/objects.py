"""`/objects/KEY` and `/buckets/BUCKET/objects/KEY`."""

from typing import Annotated, Final

from msgspec import Meta

from frontend.openapi.shapes import (
    EXAMPLE_HANDLE,
    EXAMPLE_ID,
    EXAMPLE_TIME,
    HELLO_BASE64,
    HELLO_HEX,
    BucketText,
    KeyText,
    ProfileOrNone,
    Size,
    VersionIdText,
    VersionNumber,
)
from frontend.openapi.words import (
    Node,
    all_answers,
    answers,
    answers_json,
    answers_nothing,
    fails,
    gives,
    in_header,
    in_path,
    in_query,
    leading_to,
    one_of,
    operation,
    path,
    sends_bytes,
)
from frontend.rest.described.answers import Begun, Revealed, Stored

STORED: Final = Stored(version=1, version_id=EXAMPLE_ID, size=11, sha256=HELLO_HEX, etag=HELLO_HEX)
BUCKET: Final = in_path("bucket", BucketText, "The bucket.", example="photos")
KEY: Final = in_path("key", KeyText, "The object's name.", example="report.pdf")

_ETAG = gives(str, "The quoted entity tag: hex SHA-256, with `-gzip` inside when encoded.")
VERSION_HEADERS: Final = {
    "X-Version": gives(VersionNumber, "The version's number."),
    "X-Version-Id": gives(VersionIdText, "The version's id."),
}
STORED_HEADERS: Final = {
    "Etag": _ETAG,
    **VERSION_HEADERS,
    "Last-Modified": gives(str, "When it was stored."),
}
OBJECT_HEADERS: Final = {
    **STORED_HEADERS,
    "Accept-Ranges": gives(str, "`bytes`; `none` when encoded."),
    "Vary": gives(str, "`Accept-Encoding`.", always=False),
    "Content-Encoding": gives(str, "`gzip`, or as the object was stored.", always=False),
}
_VERSION: Final = in_query("version", VersionNumber, "That version instead of the current one.")
_VERSION_ID: Final = in_query("version_id", VersionIdText, "The same by the version's id.")
AT: Final = in_query(
    "at",
    str,
    "As it was at that time: ISO 8601, UTC where no zone is written, or unix seconds; not in the"
    " future.",
    example=EXAMPLE_TIME,
)
_IF_MATCH = in_header("If-Match", str, "Entity tags, one of which must be current, or `*`.")
_IF_NONE_MATCH = in_header("If-None-Match", str, "Entity tags none of which may be, or `*`.")
READ_HEADERS: Final = [
    in_header("Range", str, "One range of bytes; others are ignored.", example="bytes=0-99"),
    in_header("If-Range", str, "The Range counts only for this entity tag or date."),
    _IF_MATCH,
    _IF_NONE_MATCH,
    in_header("If-Modified-Since", str, "Else 304."),
    in_header("If-Unmodified-Since", str, "Else 412."),
    in_header("Accept-Encoding", str, "`gzip`, where it helps and without Range."),
]
DIGESTS: Final = [
    in_header(
        "Digest",
        Annotated[str, Meta(examples=[f"SHA-256={HELLO_BASE64}"])],
        "`SHA-256=BASE64` (RFC 3230): what the content must be.",
    ),
    in_header("Content-Digest", str, "`sha-256=:BASE64:` (RFC 9530), as Digest."),
    in_header("Repr-Digest", str, "`sha-256=:BASE64:` (RFC 9530), as Digest."),
]
KEPT: Final = [
    in_header(name, str, "Kept, and given back by GET.")
    for name in (
        "Content-Disposition",
        "Content-Encoding",
        "Content-Language",
        "Cache-Control",
        "Expires",
    )
]
_PROFILE = in_header("X-Oss-Profile", ProfileOrNone, "Redundancy of this object.", example="4+2")
_PROFILE_ARGUMENT = in_query("profile", ProfileOrNone, "The same, for who cannot set headers.")
_SAYS_PUT = (
    "Every `X-Oss-Meta-*` header is kept and given back, too (8 KiB at most). A body that ends"
    " early leaves no version."
)


def object_paths() -> dict[str, Node]:
    """Both paths, which differ in their bucket only."""
    return {
        "/objects/{key}": _object_path("Object", [KEY]),
        "/buckets/{bucket}/objects/{key}": _object_path("BucketObject", [BUCKET, KEY]),
    }


def _object_path(name: str, parameters: list[Node]) -> Node:
    return path(
        *parameters,
        get=_get(name),
        put=_put(name),
        delete=_delete(name),
        post=_post(name),
    )


def _put(name: str) -> Node:
    return operation(
        f"put{name}",
        "objects",
        "Store a new version",
        all_answers(
            {"200": _readable(name, answers_json("Stored.", Stored, STORED, STORED_HEADERS))},
            fails(400, 401, 403, 404, 409, 412, 413, 500, 503, 507),
        ),
        says=_SAYS_PUT,
        parameters=[_PROFILE_ARGUMENT, _PROFILE, *DIGESTS, _IF_MATCH, _IF_NONE_MATCH, *KEPT],
        body=sends_bytes("The object's bytes. Its Content-Type is kept."),
    )


def _readable(name: str, stored: Node) -> Node:
    """Where to read, and hide, what was stored."""
    place = {"key": "$request.path.key"}
    if name == "BucketObject":
        place["bucket"] = "$request.path.bucket"
    for following in (f"get{name}", f"delete{name}"):
        stored = leading_to(stored, following, **place, version="$response.body#/version")
    return leading_to(stored, f"begin{name}", **place)


def sent_object(headers: dict[str, Node], *failures: int) -> dict[str, Node]:
    """The answers of a GET of an object's bytes."""
    content: dict[str, Node] = {"*/*": {"schema": {}}}
    part = {"Content-Range": gives(str, "`bytes FIRST-LAST/SIZE`."), **headers}
    return all_answers(
        {
            "200": answers("The whole object.", content, headers),
            "206": answers("The range.", content, part),
            "304": answers_nothing("What the client has is current.", headers),
        },
        fails(400, 401, 403, 404, 412, 416, 500, 503, *failures),
    )


def _get(name: str) -> Node:
    return operation(
        f"get{name}",
        "objects",
        "The bytes of a version, or a range of them",
        sent_object(OBJECT_HEADERS),
        says="An answer that fails after its first bytes is cut, and never wrong.",
        parameters=[_VERSION, _VERSION_ID, AT, *READ_HEADERS],
    )


def _delete(name: str) -> Node:
    marker = gives(str, "`true` where a delete marker was put on top.", always=False)
    gone = answers_nothing("Hidden, or gone.", {**VERSION_HEADERS, "X-Delete-Marker": marker})
    return operation(
        f"delete{name}",
        "objects",
        "Hide an object, or remove one version of it for good",
        all_answers({"204": gone}, fails(400, 401, 403, 404, 412, 500, 503)),
        says="Without a version a delete marker is put on top, and older versions stay readable.",
        parameters=[_VERSION, _VERSION_ID, _IF_MATCH, _IF_NONE_MATCH],
    )


def _sendable(begun: Node) -> Node:
    for following in ("continueUpload", "readProgress", "giveUploadUp"):
        begun = leading_to(begun, following, name_or_handle="$response.body#/token")
    return begun


def _post(name: str) -> Node:
    begun = Begun(token=EXAMPLE_HANDLE, upload_offset=0, size=11)
    headers = {
        "Location": gives(str, "`/temp/HANDLE`: where the bytes go."),
        "Upload-Offset": gives(Size, "0"),
    }
    return operation(
        f"begin{name}",
        "objects",
        "Begin an upload of several requests, or bring a deleted object back",
        all_answers(
            {
                "200": answers_json(
                    "The content is here already and was named; or the object is back.",
                    one_of(Stored, Revealed),
                    STORED,
                    VERSION_HEADERS,
                ),
                "201": _sendable(answers_json("Send it to Location.", Begun, begun, headers)),
            },
            fails(400, 401, 403, 404, 409, 412, 413, 500, 503, 507),
        ),
        says="An upload needs a digest and its size; `undelete=1` takes neither.",
        parameters=[
            in_query("undelete", str, "Make the version under the markers current again."),
            in_header("Size", Size, "Bytes of the whole content.", example=11),
            in_header("Upload-Length", Size, "As Size."),
            *DIGESTS,
            _IF_MATCH,
            _IF_NONE_MATCH,
            *KEPT,
        ],
    )
