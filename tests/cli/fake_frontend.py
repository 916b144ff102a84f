"""A frontend that answers as it is told, over real HTTP on loopback."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True)
class Told:
    """An answer; `declared` above the body's size makes it break off."""

    status: int = 200
    body: bytes = b""
    declared: int | None = None
    headers: dict[str, str] = field(default_factory=dict)


def refusal(status: int, code: str, message: str) -> Told:
    """An error as the native API words it."""
    error = {"code": code, "message": message, "request_id": "1"}
    return Told(status, json.dumps({"error": error}).encode())


Answer = Callable[[str, str, bytes], Told]
"""Method, decoded path and body of a request to what is answered."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "FakeFrontend"

    def _reply(self) -> None:
        body = self._body()
        if body is None:
            self.close_connection = True
            return
        path = unquote(urlsplit(self.path).path)
        self.server.queries.append(dict(parse_qsl(urlsplit(self.path).query)))
        self.server.seen.append((self.command, path))
        told = self.server.answer(self.command, path, body)
        self.send_response(told.status)
        for name, value in told.headers.items():
            self.send_header(name, value)
        size = len(told.body) if told.declared is None else told.declared
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(told.body)
        self.close_connection = size != len(told.body)

    def _body(self) -> bytes | None:
        """None when the client broke off."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found
        size = int(self.headers.get("Content-Length", 0))
        found = self.rfile.read(size)
        return found if len(found) == size else None

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = do_PATCH = _reply

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


class FakeFrontend(ThreadingHTTPServer):
    """`seen` are the requests whose bodies came whole, `queries` the arguments of each."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.seen: list[tuple[str, str]] = []
        self.queries: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(answer: Answer) -> Iterator[FakeFrontend]:
    """A block in which it runs."""
    with FakeFrontend(answer) as frontend:
        thread = threading.Thread(target=frontend.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield frontend
        finally:
            frontend.shutdown()
            thread.join()
