"""Long files to objects, through broken connections: what has arrived is not sent again.

The file is hashed first. A store that knows the content takes nothing; else the upload has a
handle, under which it goes on where it stands: after a break in this process, and, since the
handle is remembered, when the same command is given again.
"""

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.api import Api, object_path
from cli.progress import Meter
from cli.transfer import PIECE_BYTES, Upload
from osscore.errors import (
    AccessDenied,
    BadDigest,
    IncompleteBody,
    InvalidRange,
    NotFound,
    StoreError,
    Unavailable,
)

RESUMABLE_BYTES_MIN = 64 << 20
"""Shorter files are sent whole again."""
_FRUITLESS_MAX = 8
"""So many breaks in a row without a byte more arriving end the command."""
_PAUSE_S_MAX = 10.0


def is_resumable(upload: Upload) -> bool:
    """Whether a file is long enough, and can be read from any place."""
    source = upload.source
    return source is not None and source.is_file() and source.stat().st_size >= RESUMABLE_BYTES_MIN


async def put_resumably(
    api: Api, upload: Upload, *, headers: Mapping[str, str], meter: Meter, state: Path
) -> dict[str, Any]:
    """Store one long file as a new version; answers as `transfer.put`.

    `state`: the folder that remembers uploads under way. Raises BadDigest for a file that
    changed meanwhile, OSError for one that cannot be read, StoreError.
    """
    assert upload.source is not None
    with upload.source.open("rb", buffering=0) as file:
        sha256, size_bytes = await asyncio.to_thread(_sha256, file.fileno())
        job = _Job(api, upload, file.fileno(), size_bytes, sha256, meter, _Memory(state, upload))
        try:
            found = await job.run(headers)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(upload.source)) from error
    return {"bucket": upload.target.bucket, "key": upload.target.key, **found}


class _Memory:
    """The handles of uploads that were not finished, one small file each.

    Where it cannot be written, a later command begins anew: nothing else is lost.
    """

    def __init__(self, folder: Path, upload: Upload) -> None:
        self._folder = folder
        self._target = str(upload.target)

    def recall(self, sha256: bytes) -> str:
        """The handle for this content and target; empty: none."""
        try:
            found = json.loads(self._path(sha256).read_text())
            return str(found["handle"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def keep(self, sha256: bytes, handle: str) -> None:
        """Remember. The handle is the right to the upload: for this user's eyes."""
        path = self._path(sha256)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(json.dumps({"target": self._target, "handle": handle}))
        except OSError:
            pass

    def drop(self, sha256: bytes) -> None:
        """Forget."""
        try:
            self._path(sha256).unlink(missing_ok=True)
        except OSError:
            pass

    def _path(self, sha256: bytes) -> Path:
        name = hashlib.sha256(sha256 + self._target.encode()).hexdigest()[:32]
        return self._folder / f"{name}.json"


@dataclass(slots=True)
class _Job:
    """One file under way. `counted_bytes`: what the meter has heard of."""

    api: Api
    upload: Upload
    descriptor: int
    size_bytes: int
    sha256: bytes
    meter: Meter
    memory: _Memory
    counted_bytes: int = 0

    async def run(self, headers: Mapping[str, str]) -> dict[str, Any]:
        """The story."""
        handle = self.memory.recall(self.sha256)
        offset = await self._held(handle) if handle else None
        if offset is None:
            begun = await self._begin(headers)
            if "version" in begun:
                self._count(self.size_bytes)
                return begun
            handle, offset = str(begun["token"]), 0
            self.memory.keep(self.sha256, handle)
        found = await self._send_all(handle, offset)
        self.memory.drop(self.sha256)
        if found["sha256"] != self.sha256.hex():
            raise BadDigest(f"{self.upload.target} was stored with another content than was sent")
        return found

    async def _begin(self, headers: Mapping[str, str]) -> dict[str, Any]:
        digest = base64.b64encode(self.sha256).decode()
        fields = {**headers, "Digest": f"SHA-256={digest}", "Size": str(self.size_bytes)}
        path = object_path(self.upload.target.bucket, self.upload.target.key)
        begun: dict[str, Any] = await self.api.json("POST", path, headers=fields)
        return begun

    async def _held(self, handle: str) -> int | None:
        """Bytes that have arrived; None: there is no such upload any more."""
        try:
            async with self.api.request("HEAD", f"/temp/{handle}") as response:
                return int(response.headers["Upload-Offset"])
        except (NotFound, AccessDenied, KeyError, ValueError):
            return None

    async def _send_all(self, handle: str, offset: int) -> dict[str, Any]:
        """From `offset` to the end, through breaks."""
        fruitless = 0
        while True:
            self._count(offset)
            try:
                return await self._send_from(handle, offset)
            except (Unavailable, InvalidRange, IncompleteBody) as error:
                before, offset = offset, await self._offset_after(handle, error)
                fruitless = 0 if offset > before else fruitless + 1
                if fruitless > _FRUITLESS_MAX:
                    raise _with_advice(error) from error

    async def _offset_after(self, handle: str, error: StoreError) -> int:
        """Where to go on after a break, once somebody answers. Raises `error` if never."""
        for attempt in range(_FRUITLESS_MAX):
            try:
                held = await self._held(handle)
            except Unavailable:
                await asyncio.sleep(min(0.25 * 2**attempt, _PAUSE_S_MAX))
                continue
            if held is None:
                raise error
            return held
        raise _with_advice(error) from error

    async def _send_from(self, handle: str, offset: int) -> dict[str, Any]:
        headers = {
            "Upload-Offset": str(offset),
            "Content-Length": str(self.size_bytes - offset),
        }
        found: dict[str, Any] = await self.api.json(
            "PUT", f"/temp/{handle}", headers=headers, body=lambda: self._pieces(offset)
        )
        if "version" not in found:
            raise IncompleteBody(f"{self.upload.source} became shorter while it was read")
        return found

    async def _pieces(self, offset: int) -> AsyncIterator[bytes]:
        while offset < self.size_bytes:
            wanted = min(PIECE_BYTES, self.size_bytes - offset)
            piece = await asyncio.to_thread(os.pread, self.descriptor, wanted, offset)
            if not piece:
                raise IncompleteBody(f"{self.upload.source} became shorter while it was read")
            yield piece
            offset += len(piece)
            self._count(offset)

    def _count(self, sent_bytes: int) -> None:
        """Tell the meter what it has not heard of: what is sent again does not count."""
        if sent_bytes > self.counted_bytes:
            self.meter.count(sent_bytes - self.counted_bytes)
            self.counted_bytes = sent_bytes


def _with_advice(error: StoreError) -> StoreError:
    return type(error)(f"{error.message}; the same command again goes on where this one stopped")


def _sha256(descriptor: int) -> tuple[bytes, int]:
    """The digest and size of a file as it is now."""
    digest, size_bytes = hashlib.sha256(), 0
    while piece := os.pread(descriptor, PIECE_BYTES, size_bytes):
        digest.update(piece)
        size_bytes += len(piece)
    return digest.digest(), size_bytes
