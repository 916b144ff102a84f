"""A download that goes on by Range where it was interrupted."""

import hashlib
import http.client
from collections.abc import Iterator

from tests.big.content import PIECE_BYTES, Content
from tests.surface.resume.trouble import BROKEN, Trouble
from tests.surface.resume.uploads import NotTaken, turns
from tests.surface.ways import Source


def fetch(source: Source, content: Content, trouble: Trouble) -> str:
    """Hex SHA-256 of what came, piece after piece, over as many connections as it took."""
    digest, held = hashlib.sha256(), 0
    etag = source.read(Range="bytes=0-0").headers["ETag"] if content.size_bytes else ""
    for node in turns():
        if held == content.size_bytes:
            return digest.hexdigest()
        found = source.store.node(node)["api"].removeprefix("http://")
        headers = {**source.headers, "Range": f"bytes={held}-", "If-Range": etag}
        if not source.anonymous:
            headers |= source.store.authorization()
        connection = http.client.HTTPConnection(found, timeout=60)
        try:
            connection.request("GET", source.path, headers=headers)
            answer = connection.getresponse()
            if answer.status == 206:
                left = content.size_bytes - held
                for piece in trouble.disturbed(_pieces(answer), left, node):
                    digest.update(piece)
                    held += len(piece)
        except BROKEN:
            pass  # on from what is held
        finally:
            connection.close()
            trouble.heal()
    raise NotTaken(f"GET stopped at {held} of {content.size_bytes} bytes")


def _pieces(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while piece := answer.read1(PIECE_BYTES):
        yield piece
    if answer.length:
        raise http.client.IncompleteRead(b"", answer.length)
