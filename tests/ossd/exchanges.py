"""Requests to send and a streaming handler to receive them, for the tests of the server."""

import asyncio
import json

from osscore.errors import NoSuchKey
from ossd.http import StreamHandler


class Streaming(StreamHandler):
    """PUT /stream/<how>; what happens is noted in `seen`."""

    def initialize(self, seen: dict) -> None:
        self.seen = seen

    async def put(self, how: str) -> None:
        seen, count = self.seen, 0
        seen["task"] = asyncio.current_task()
        if how == "refuse":
            raise NoSuchKey
        async for piece in self.body_stream:
            count += len(piece)
            seen["bytes"] = count
            if how == "early" and count > 100_000:
                raise NoSuchKey
            if how == "late" and count > 9_000_000:
                raise NoSuchKey
            if how == "blocked":
                await seen["gate"].wait()
        self.reply_json({"bytes": count})

    async def get(self, how: str) -> None:
        self.seen["task"] = asyncio.current_task()
        self.set_header("Content-Length", 50_000_000)
        for number in range(50):
            self.seen["sent"] = number
            if how == "broken" and number == 2:
                raise NoSuchKey
            await self.send(bytes(1_000_000))


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"{line} HTTP/1.1", "Host: x", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def put(path: str, size: int, *headers: str) -> bytes:
    return request(f"PUT {path}", f"Content-Length: {size}", *headers)


def code(body: bytes) -> str:
    return json.loads(body)["error"]["code"]


# --- answers ---------------------------------------------------------------------------------
