"""HTTP byte by byte: what no well-behaved client would send."""

import http.client
import socket
from collections.abc import Mapping
from dataclasses import dataclass

ANSWER_S = 20.0
ANSWER_BYTES_MAX = 1 << 24


@dataclass(frozen=True)
class RawAnswer:
    """The first answer on a connection; status 0: it was closed without one."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def request_head(method: str, target: str, host: str, fields: Mapping[str, str]) -> bytes:
    """The head of a request, exactly as given."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


def connect(address: str) -> socket.socket:
    """A connection to host:port."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=ANSWER_S)


def exchange(
    address: str,
    sent: bytes,
    *,
    method: str = "GET",
    answer_s: float = ANSWER_S,
) -> RawAnswer:
    """Send bytes, read one answer.

    Raises TimeoutError when there is neither an answer nor an end in time.
    """
    with connect(address) as peer:
        peer.settimeout(answer_s)
        try:
            peer.sendall(sent)
        except ConnectionError:
            pass  # refused before it was all sent; the answer may still be there
        return _read(peer, method)


def _read(peer: socket.socket, method: str) -> RawAnswer:
    answer = http.client.HTTPResponse(peer, method=method)
    try:
        answer.begin()
        body = answer.read(ANSWER_BYTES_MAX)
    except TimeoutError:
        raise
    except (http.client.HTTPException, OSError):
        return RawAnswer(0, {}, b"")
    return RawAnswer(answer.status, dict(answer.headers.items()), body)


def cut_connection(address: str, sent: bytes) -> None:
    """Send bytes, then vanish."""
    with connect(address) as peer:
        try:
            peer.sendall(sent)
        except ConnectionError:
            pass  # refused before it was all sent
