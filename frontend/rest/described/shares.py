"""Links to one version that any browser opens."""

from frontend.openapi.failures import says_of
from frontend.openapi.shapes import EXAMPLE_TIME, RequestId, Shape, Time, VersionNumber
from frontend.openapi.words import (
    NO_CREDENTIALS,
    TEXT,
    Node,
    all_answers,
    answers,
    answers_json,
    fails,
    gives,
    in_path,
    leading_to,
    operation,
    path,
    sends_json,
)
from frontend.rest.described.objects import OBJECT_HEADERS, READ_HEADERS, sent_object
from frontend.rest.share import NewShare

_HTML = "text/html; charset=utf-8"
_GUARDS = {
    "X-Content-Type-Options": gives(str, "`nosniff`."),
    "Referrer-Policy": gives(str, "`no-referrer`."),
    "Cache-Control": gives(str, "`private, no-cache`."),
}


class ShareMade(Shape, frozen=True):
    """A link; `jti` is what to revoke it by."""

    url: str
    token: str
    jti: str
    version: VersionNumber
    expires_at: Time


def share_paths() -> dict[str, Node]:
    """Making one, and opening it."""
    token = in_path("token", str, "As the link has it.")
    name = in_path("file_name", str, "For the address bar only.", example="report.pdf")
    return {
        "/v1/shares": path(post=_make()),
        "/share/{token}": path(token, get=_open("openShare")),
        "/share/{token}/{file_name}": path(token, name, get=_open("openNamedShare")),
    }


def _make() -> Node:
    made = ShareMade(
        url="https://store.example/share/eyJ.../report.pdf",
        token="eyJ...",
        jti="Zb3cT0kX",
        version=1,
        expires_at=EXAMPLE_TIME,
    )
    never_kept = {"Cache-Control": gives(str, "`no-store`: the answer holds a secret.")}
    shown = answers_json("Made.", ShareMade, made, never_kept)
    return operation(
        "makeShare",
        "shares",
        "Make a link to one version",
        all_answers(
            {"201": leading_to(shown, "openShare", token="$response.body#/token")},
            fails(400, 401, 403, 404, 413, 500, 503),
        ),
        body=sends_json("To what.", NewShare, {"key": "report.pdf", "expires_s": 3600}),
    )


def _open(name: str) -> Node:
    refused = {str(status): _page(status) for status in (400, 401, 403, 404, 412, 416, 500, 503)}
    return operation(
        name,
        "shares",
        "The version that a link shows",
        {**sent_object({**OBJECT_HEADERS, **_GUARDS}), **refused},
        says="Refusals are pages for browsers and text for tools.",
        parameters=READ_HEADERS,
        security=NO_CREDENTIALS,
    )


def _page(status: int) -> Node:
    text = {"schema": str, "example": "ExpiredToken: The token has expired.\n"}
    page = {"schema": str, "example": "<!doctype html>..."}
    headers = {**_GUARDS, "X-Request-Id": gives(RequestId, "Also in the logs.")}
    return answers(says_of(status), {TEXT: text, _HTML: page}, headers)
