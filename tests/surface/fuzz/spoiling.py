"""Good requests made bad: methods, targets, headers, bodies, and the bytes themselves."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

from tests.surface.tricks import endings

if TYPE_CHECKING:
    from tests.surface.fuzz.shots import Request

ENDINGS = tuple(endings())
METHODS = (
    "GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND",
    "get", "X", "M" * 300,
)  # fmt: skip
NUMBERS = (
    "0", "-1", "1", "x", "", " ", "1.5", "1e9", "0x10", "99999999999999999999", "9" * 400,
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "१", "NaN", "null",
)  # fmt: skip
VALUES: dict[str, tuple[str, ...]] = {
    "Authorization": (
        "", "Basic", "Basic ====", "Basic Og==", "Bearer", "Bearer :", "Bearer a:b", "Digest x",
        "Basic " + "QUFB" * 3000, "AWS4-HMAC-SHA256 Credential=a/b/c, Signature=d", "Bearer \xff",
    ),
    "Range": (
        "bytes=", "bytes=-", "bytes=5-2", "bytes=-0", "bytes=0-0,1-1", "bytes=" + "0-1," * 500,
        "bytes=99999999999999999999-", "bytes=0-99999999999999999999", "items=0-5", "bytes",
        "bytes=a-b", "bytes=١-٢", "bytes=--1", "bytes=0-" + "9" * 5000, "bytes 0-5/9",
    ),
    "If-Range": ('"x"', "x", "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 99 Foo 0000 99:99:99 GMT"),
    "If-None-Match": ("*", '"', '"a", "b', 'W/"x"', ",,,,", '"' + "e" * 9000 + '"'),
    "If-Match": ("*", "", '"x"', "x"),
    "If-Modified-Since": ("x", "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 99999 08:49:37 GMT"),
    "If-Unmodified-Since": ("0", "Sun, 06 Nov 1994 08:49:37 GMT"),
    "Digest": (
        "SHA-256=", "SHA-256", "SHA-256=AAAA", "sha-256=%%%", "MD5=AAAA", "SHA-256=" + "A" * 9000,
        "SHA-256=x,SHA-256=y", "=", "SHA-256=\xff",
    ),
    "Content-Digest": ("sha-256=::", "sha-256=:AAAA:", "sha-256=:x", "sha-256=5", "x=:::", "("),
    "Repr-Digest": ("sha-256=:AAAA:", "sha-512=:AAAA:", ";"),
    "Size": NUMBERS,
    "Upload-Offset": NUMBERS,
    "Content-Length": (*NUMBERS, "5, 5", "5, 6", "+5", "00005"),
    "Transfer-Encoding": ("chunked", "gzip", "chunked, chunked", "identity", "x", "\x0bchunked"),
    "Content-Encoding": ("gzip", "deflate", "x" * 5000, "gzip, gzip"),
    "Content-Type": (
        "multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary="',
        "multipart/form-data; boundary=" + "b" * 5000, "multipart/form-data; boundary=\xff",
        "application/json; charset=utf-7", "x", "text/html\x0b",
        "application/x-www-form-urlencoded",
    ),
    "Accept": ("application/json", "*/*;q=x", "text/" + "x" * 5000, ",;="),
    "Accept-Encoding": ("gzip", "gzip;q=x", "gzip;q=", "*;q=0", "gzip;q=1e999", "," * 900),
    "Expect": ("100-continue", "200-ok", "100-continue, x"),
    "X-Oss-Profile": ("0+0", "4+2", "-1+2", "255+255", "4+", "+", "x" * 999, "99999999999+1"),
    "X-Oss-Meta-A": ("\xff\xfe", "v" * 9000, ""),
    "token": ("", "x", ".", "a.b", "e30=." + "0" * 64, "A" * 9000 + "." + "f" * 64, "\xff.\xff"),
    "systemToken": ("", "x", "s" * 9000, "\xe9"),
    "X-Request-Id": ("x" * 9000, "\x1b[31m", "a b"),
    "Host": ("", "a b", "x" * 5000, "[::1", "store:99999999"),
    "Connection": ("close", "keep-alive", "Upgrade", "x" * 900),
    "Upgrade": ("websocket", "h2c"),
    "Cookie": ("a=b; " * 900, "\xff=\xff", "="),
    "X-Forwarded-For": ("127.0.0.1", "x", "::"),
}  # fmt: skip
JSONS = (
    b"", b"{", b"[]", b"null", b"5", b'"x"', b"\xff\xfe", b"{}" * 500, b"[" * 20_000,
    b'{"a":' * 5000, b'{"token": 5}', b'{"sha256": null, "size": -1}', b'{"size": 1e999}',
    b'{"size": ' + b"9" * 5000 + b"}", b'{"token": "' + b"x" * 100_000 + b'"}', b"\xef\xbb\xbf{}",
    b'{"token": "\\ud800"}', b'{"a": 1, "a": 2}',
    b'{"scopes": "all", "expires_s": -5, "prefixes": [[]], "bucket": {}, "key": 5}', b"NaN",
)  # fmt: skip


def spoil(rng: Random, request: Request) -> None:
    """Make one thing of a request worse."""
    rng.choice(_WAYS)(rng, request)


def _method(rng: Random, request: Request) -> None:
    request.method = rng.choice(METHODS)


def _target(rng: Random, request: Request) -> None:
    head, slash, tail = request.target.rpartition("/")
    request.target = head + slash + rng.choice(ENDINGS)
    if rng.random() < 0.3:
        request.target += "/" + tail


def _noise_in_target(rng: Random, request: Request) -> None:
    at = rng.randrange(1, len(request.target) + 1)
    noise = quote_from_bytes(rng.randbytes(rng.choice((1, 2, 8))))
    request.target = request.target[:at] + noise + request.target[at + rng.randrange(3) :]


def _query(rng: Random, request: Request) -> None:
    path, _, query = request.target.partition("?")
    names = [pair.partition("=")[0] for pair in query.split("&") if pair]
    name = rng.choice([*names, "version", "version_id", "limit", "after", "chunk", "profile", "x"])
    value = rng.choice([*NUMBERS, *ENDINGS]).replace("#", "%23").replace(" ", "%20")
    value = quote_from_bytes(value.encode(), safe="%./-")
    request.target = f"{path}?{name}={value}" + (f"&{query}" if rng.random() < 0.5 else "")


def _header(rng: Random, request: Request) -> None:
    name = rng.choice(tuple(VALUES))
    _drop(request, name)
    request.headers.append((name, rng.choice(VALUES[name])))


def _header_again(rng: Random, request: Request) -> None:
    name = rng.choice(tuple(VALUES))
    request.headers.append((name, rng.choice(VALUES[name])))


def _no_header(rng: Random, request: Request) -> None:
    if request.headers:
        request.headers.pop(rng.randrange(len(request.headers)))


def _header_bits(rng: Random, request: Request) -> None:
    """A bit of a value that is in use: tokens, digests, keys."""
    if not request.headers:
        return
    index = rng.randrange(len(request.headers))
    name, value = request.headers[index]
    if value:
        at = rng.randrange(len(value))
        request.headers[index] = (name, value[:at] + rng.choice("AZaz09._-/+=~") + value[at + 1 :])


def _many_headers(rng: Random, request: Request) -> None:
    request.headers += [(f"X-{number}", "y" * 50) for number in range(rng.choice((50, 200, 2000)))]


def _json(rng: Random, request: Request) -> None:
    _replace_body(request, rng.choice(JSONS))


def _body_bits(rng: Random, request: Request) -> None:
    body = bytearray(request.body or b"x")
    for _ in range(rng.choice((1, 3, 20))):
        body[rng.randrange(len(body))] = rng.randrange(256)
    _replace_body(request, bytes(body))


def _cut_body(rng: Random, request: Request) -> None:
    _replace_body(request, request.body[: rng.randrange(len(request.body) + 1)])


def _form_lines(rng: Random, request: Request) -> None:
    lines = request.body.split(b"\r\n")
    rng.choice((rng.shuffle, list.pop, list.reverse))(lines)
    extra = (b"Content-Disposition: form-data; name=\"file\"; filename*=utf-8''%ff", b"--", b"\x00")
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(extra))
    _replace_body(request, b"\r\n".join(lines))


def _chunked(rng: Random, request: Request) -> None:
    _drop(request, "Content-Length")
    request.headers.append(("Transfer-Encoding", "chunked"))
    size = rng.choice((f"{len(request.body):x}", f"{len(request.body):X};a=b"))
    request.body = size.encode() + b"\r\n" + request.body + b"\r\n0\r\n\r\n"


_WAYS: tuple[Callable[[Random, Request], None], ...] = (
    _method, _target, _noise_in_target, _query, _query, _header, _header, _header, _header_again,
    _no_header, _header_bits, _header_bits, _many_headers, _json, _body_bits, _cut_body,
    _form_lines, _chunked,
)  # fmt: skip


def _drop(request: Request, name: str) -> None:
    request.headers = [pair for pair in request.headers if pair[0].lower() != name.lower()]


def _replace_body(request: Request, body: bytes) -> None:
    _drop(request, "Content-Length")
    _drop(request, "Transfer-Encoding")
    request.body = body
    request.headers.append(("Content-Length", str(len(body))))


def encode(request: Request) -> bytes:
    """As bytes, whatever is in it."""
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + request.body


def is_whole(request: Request) -> bool:
    """Whether a server knows where it ends: then it must answer."""
    lengths = [value for name, value in request.headers if name.lower() == "content-length"]
    coded = any(name.lower() == "transfer-encoding" for name, _ in request.headers)
    odd = any(
        name.lower() in ("expect", "upgrade", "connection") for name, _ in request.headers[2:]
    )
    if coded or odd or len(lengths) > 1:
        return False
    return lengths == ([str(len(request.body))] if request.body or lengths else [])


def spoil_bytes(rng: Random, sent: bytes) -> bytes:
    """The bytes of a request made worse."""
    at = rng.randrange(min(len(sent), 400))
    noise = rng.randbytes(rng.choice((1, 4, 100)))
    spoken = rng.choice((b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"", b"HTTP/1.1 x"))
    smuggled = b"GET /objects/fuzz/a HTTP/1.1\r\nHost: x\r\n\r\n"
    return rng.choice(
        (
            sent[:at],
            sent[:at] + noise + sent[at:],
            sent[:at] + sent[at + rng.randrange(20) :],
            sent.replace(b"\r\n", b"\n"),
            sent.replace(b"\r\n", b"\r"),
            sent.replace(b": ", b" : ", 2),
            sent.replace(b"\r\n", b"\r\n ", 2),
            sent.replace(b"HTTP/1.1", spoken, 1),
            sent.replace(b"\r\n", b"\r\nTransfer-Encoding: chunked\r\n", 1),
            sent.replace(b"\r\n", b"\r\nContent-Length: 3\r\n", 1) + smuggled,
            sent + smuggled * rng.choice((1, 20)),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + noise,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + noise,
            noise * 50,
            b"\r\n" * 50 + sent,
        )
    )  # fmt: skip
