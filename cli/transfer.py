"""Files to objects and back: streamed, verified, with progress."""

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from cli.api import Api, object_path
from cli.output import UsageError
from cli.target import Target
from osscore.errors import BadDigest, IncompleteBody

PIECE_BYTES = 1 << 20
PARALLEL_FILES = 8


class Meter(Protocol):
    """Hears how many more bytes went by."""

    def __call__(self, size_bytes: int, /) -> None:
        """Count them."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A local file (None: standard input) and the object it becomes."""

    source: Path | None
    target: Target


async def put(
    api: Api, upload: Upload, *, headers: Mapping[str, str], meter: Meter
) -> dict[str, Any]:
    """Store one file as a new version; answers the server's JSON with name and bucket.

    The server's SHA-256 is compared with our own. Raises BadDigest when they differ.
    """
    digest = hashlib.sha256()
    fields = dict(headers)
    if upload.source is not None:
        fields["Content-Length"] = str(upload.source.stat().st_size)

    async def body() -> AsyncIterator[bytes]:
        nonlocal digest
        digest = hashlib.sha256()
        file: BinaryIO = sys.stdin.buffer if upload.source is None else upload.source.open("rb")
        try:
            while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                digest.update(piece)
                yield piece
                meter(len(piece))
        finally:
            if upload.source is not None:
                file.close()

    path = object_path(upload.target.bucket, upload.target.key)
    found: dict[str, Any] = await api.json("PUT", path, headers=fields, body=body)
    if found["sha256"] != digest.hexdigest():
        raise BadDigest(f"{upload.target} was stored with another content than was sent")
    return {"bucket": upload.target.bucket, "key": upload.target.key, **found}


async def fetch(
    api: Api,
    target: Target,
    *,
    version: int | None,
    headers: Mapping[str, str],
    output: BinaryIO,
    meter: Meter,
) -> int:
    """Stream an object into `output`; answers its size. Raises IncompleteBody, BadDigest."""
    query = {} if version is None else {"version": str(version)}
    path = object_path(target.bucket, target.key)
    digest, size_bytes = hashlib.sha256(), 0
    async with api.request("GET", path, query=query, headers=headers) as response:
        import aiohttp

        try:
            async for piece in response.content.iter_any():
                await asyncio.to_thread(output.write, piece)
                digest.update(piece)
                size_bytes += len(piece)
                meter(len(piece))
        except aiohttp.ClientError as error:
            raise IncompleteBody(f"{target} broke off after {size_bytes} bytes") from error
        declared = response.headers.get("Content-Length")
        if declared is not None and int(declared) != size_bytes:
            raise IncompleteBody(f"{target} broke off after {size_bytes} of {declared} bytes")
        etag = response.headers.get("ETag", "").strip('"')
        if response.status == 200 and len(etag) == 64 and etag != digest.hexdigest():
            raise BadDigest(f"{target} arrived with other bytes than its digest says")
    return size_bytes


async def fetch_to_file(
    api: Api, target: Target, path: Path, *, version: int | None, meter: Meter
) -> int:
    """Fetch into a file that appears only when whole and verified."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            size_bytes = await fetch(
                api, target, version=version, headers={}, output=file, meter=meter
            )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return size_bytes


def uploads(sources: list[Path], target: str | None, *, recursive: bool) -> list[tuple[Path, str]]:
    """Pairs of file and key for `put`. Raises UsageError.

    One file: the target is its key, or a prefix when it ends with '/'. Several files or
    folders: the target is a prefix. Folders keep their own name unless a target is given
    for exactly one folder.
    """
    found: list[tuple[Path, str]] = []
    is_prefix = target is not None and (target == "" or target.endswith("/"))
    for source in sources:
        if source.is_dir():
            if not recursive:
                raise UsageError(f"{source} is a folder; give -r to store what is in it")
            base = target if target is not None and len(sources) == 1 else None
            prefix = _folder_prefix(source, base, target)
            for path in sorted(p for p in source.rglob("*") if p.is_file()):
                found.append((path, prefix + path.relative_to(source).as_posix()))
        elif len(sources) == 1 and target is not None and not is_prefix:
            found.append((source, target))
        else:
            prefix = target or ""
            if prefix and not is_prefix:
                prefix += "/"
            found.append((source, prefix + source.name))
    return found


def _folder_prefix(source: Path, only: str | None, target: str | None) -> str:
    if only is not None:
        return only if only == "" or only.endswith("/") else only + "/"
    name = source.resolve().name
    outer = "" if not target else target if target.endswith("/") else target + "/"
    return f"{outer}{name}/"


def local_path(folder: Path, relative: str) -> Path:
    """Where a key lands under `folder`. Raises UsageError for keys that would leave it."""
    parts = relative.split("/")
    if not relative or any(part in ("", ".", "..") for part in parts):
        raise UsageError(
            f"the object name {relative!r} cannot be a file below {folder}; "
            "fetch it alone and name the file: ossctl get NAME FILE"
        )
    return folder.joinpath(*parts)


def progress(total_bytes: int | None, *, shown: bool) -> AbstractContextManager[Meter]:
    """A progress bar on standard error where that is a terminal, else nothing."""
    if not shown or not sys.stderr.isatty():
        return nullcontext(lambda _size: None)
    return _Bar(total_bytes)


class _Bar:
    """A rich progress bar as a Meter."""

    def __init__(self, total_bytes: int | None) -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        from cli.output import stderr

        self._progress = Progress(
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=stderr(),
            transient=True,
        )
        self._task = self._progress.add_task("", total=total_bytes)

    def __enter__(self) -> Meter:
        self._progress.start()
        return self._count

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _count(self, size_bytes: int, /) -> None:
        self._progress.advance(self._task, size_bytes)
