"""An older store as `docs/migration.md` copies from it: versions by name, files by token."""

import hashlib
import json
import threading
from base64 import b64encode
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

SYSTEM = "the-system-token-of-the-older-store"

Versions = dict[str, list[bytes | None]]
"""Name -> contents, oldest first; None is a delete marker."""
PAGE_LINES = 3


@contextmanager
def older_store(
    objects: Versions, files: list[bytes], *, failing_once: Collection[bytes] = ()
) -> Iterator[str]:
    """Its URL for the time of the block. The first answer with each content of `failing_once`
    is a 500."""
    by_hash = {hashlib.sha256(body).hexdigest(): body for body in files}
    failing = set(failing_once)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(url.query).items()}
            body = self._answer(url.path, asked)
            status = 404 if body is None else 200
            if body in failing:
                failing.discard(body)
                body, status = b"", 500
            self.send_response(status)
            if url.path == "/versions/" and body:
                following = int(asked.get("after", 0)) + PAGE_LINES
                self.send_header("Link", f'</versions/?after={following}>; rel="next"')
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def _answer(self, path: str, asked: dict[str, str]) -> bytes | None:
            if path == "/versions/":
                first = int(asked.get("after", 0))
                return "".join([*lines(objects)][first : first + PAGE_LINES]).encode()
            if path.startswith("/objects/"):
                return objects[unquote(path[9:])][int(asked["version"]) - 1]
            if path == "/download/token" and self.headers["systemToken"] == SYSTEM:
                return json.dumps({"data": {"token": f"for-{asked['hash']}"}}).encode()
            if path == "/download":
                return by_hash.get(self.headers["token"].removeprefix("for-"))
            return None

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def lines(objects: Versions) -> Iterator[str]:
    """What `/versions/` says."""
    for name, contents in objects.items():
        for number, body in enumerate(contents, start=1):
            digest = b64encode(hashlib.sha256(body).digest()).decode() if body is not None else ""
            size = len(body or b"")
            yield json.dumps({"Name": name, "Version": number, "Size": size, "Hash": digest}) + "\n"
