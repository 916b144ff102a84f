"""Files to objects and back: streamed and verified."""

import asyncio
import errno
import hashlib
import os
import secrets
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from cli.api import Api, object_path
from cli.output import UsageError
from cli.progress import Meter
from cli.target import Target
from osscore.errors import BadDigest, IncompleteBody, PeerUnreachable, StoreError

if TYPE_CHECKING:
    import aiohttp

PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Upload:
    """A local file (None: standard input) and the object it becomes."""

    source: Path | None
    target: Target


async def put(
    api: Api, upload: Upload, *, headers: Mapping[str, str], meter: Meter
) -> dict[str, Any]:
    """Store one file as a new version; answers the server's JSON with name and bucket.

    The server's SHA-256 is compared with our own. Raises BadDigest when they differ, OSError
    for a source that cannot be read, IncompleteBody for one that became shorter meanwhile.
    """
    fields = dict(headers)
    with _open(upload.source) as source:
        if source.size_bytes is not None:
            fields["Content-Length"] = str(source.size_bytes)
        path = object_path(upload.target.bucket, upload.target.key)
        try:
            found = await api.json("PUT", path, headers=fields, body=lambda: source.pieces(meter))
        except StoreError:
            if source.error is not None:
                raise source.error from None  # the request broke off for this alone
            raise
        if found["sha256"] != source.digest.hexdigest():
            raise BadDigest(f"{upload.target} was stored with another content than was sent")
    return {"bucket": upload.target.bucket, "key": upload.target.key, **found}


@dataclass(slots=True)
class _Source:
    """Bytes to send: exactly as many as were declared, hashed on their way."""

    name: str
    descriptor: int
    size_bytes: int | None
    digest: Any = None
    error: OSError | IncompleteBody | None = None
    """What kept it from being read to its end."""

    async def pieces(self, meter: Meter) -> AsyncIterator[bytes]:
        """From the start. A regular file is read up to the size it had when it was opened:
        one that grows, such as a log, is stored as it was."""
        self.digest, self.error = hashlib.sha256(), None
        left = self.size_bytes
        try:
            if left is not None:
                os.lseek(self.descriptor, 0, os.SEEK_SET)
            while piece := await self._piece(left):
                self.digest.update(piece)
                left = None if left is None else left - len(piece)
                yield piece
                meter.count(len(piece))
            if left:
                raise IncompleteBody(f"{self.name} became shorter while it was read")
        except OSError as error:
            self.error = OSError(error.errno, error.strerror, self.name)
            raise
        except IncompleteBody as error:
            self.error = error
            raise

    async def _piece(self, left: int | None) -> bytes:
        if left is not None:
            return await asyncio.to_thread(os.read, self.descriptor, min(left, PIECE_BYTES))
        # A thread that waits for a terminal or a pipe cannot be interrupted.
        await _readable(self.descriptor)
        return os.read(self.descriptor, PIECE_BYTES)


@contextmanager
def _open(source: Path | None) -> Iterator[_Source]:
    if source is None:
        if sys.stdin is None:
            raise UsageError("standard input is closed")
        yield _Source("standard input", sys.stdin.fileno(), None)
        return
    with source.open("rb", buffering=0) as file:
        try:
            size_bytes = _size_to_declare(file.fileno())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(source)) from error
        yield _Source(str(source), file.fileno(), size_bytes)


def _size_to_declare(descriptor: int) -> int | None:
    """None for pipes and devices, and for files of /proc: empty until they are read."""
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        return None
    if facts.st_size == 0 and os.pread(descriptor, 1, 0):
        return None
    return facts.st_size


async def _readable(descriptor: int) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except PermissionError:
        return  # a regular file always is
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


async def fetch(
    api: Api, target: Target, *, which: Mapping[str, str], output: BinaryIO, meter: Meter
) -> int:
    """Stream an object into `output`; answers its size. `which`: see `which_version`.

    Raises PeerUnreachable when it breaks off, BadDigest, OSError of `output`.
    """
    path = object_path(target.bucket, target.key)
    digest, size_bytes = hashlib.sha256(), 0
    async with api.request("GET", path, query=which) as response:
        declared = int(response.headers.get("Content-Length", -1))
        if declared >= 0:
            meter.expect(declared)

        def keep(piece: bytes) -> None:
            output.write(piece)
            digest.update(piece)

        # One piece is written while the next arrives: what arrives meanwhile is one piece.
        async with aclosing(_Beside()) as beside:
            async for piece in _pieces(response, target):
                await beside.run(keep, piece)
                size_bytes += len(piece)
                meter.count(len(piece))
            await beside.done()
        if declared not in (-1, size_bytes):
            raise PeerUnreachable(f"{target} broke off after {size_bytes} of {declared} bytes")
        etag = response.headers.get("ETag", "").strip('"')
        if response.status == 200 and len(etag) == 64 and etag != digest.hexdigest():
            raise BadDigest(f"{target} arrived with other bytes than its digest says")
    return size_bytes


class _Beside:
    """Runs one thing at a time in a thread, beside the loop."""

    def __init__(self) -> None:
        self._running: asyncio.Future[None] | None = None

    async def run(self, work: Callable[[bytes], None], piece: bytes) -> None:
        """Begin it once the one before has ended. Raises what that raised."""
        await self.done()
        self._running = asyncio.ensure_future(asyncio.to_thread(work, piece))

    async def done(self) -> None:
        """Return once nothing runs. Raises what the last one raised."""
        running, self._running = self._running, None
        if running is not None:
            await running

    async def aclose(self) -> None:
        """Let what runs end; its outcome no longer matters."""
        if self._running is not None:
            await asyncio.wait((self._running,))


async def _pieces(response: "aiohttp.ClientResponse", target: Target) -> AsyncIterator[bytes]:
    import aiohttp

    size_bytes = 0
    try:
        async for piece in response.content.iter_any():
            size_bytes += len(piece)
            yield piece
    except (aiohttp.ClientError, TimeoutError) as error:
        raise PeerUnreachable(f"{target} broke off after {size_bytes} bytes; try again") from error


async def fetch_to_file(
    api: Api, target: Target, path: Path, *, which: Mapping[str, str], meter: Meter
) -> int:
    """Fetch into a file that appears only when whole and verified; a device or pipe is
    written to as it is. Raises as `fetch`, its OSError with the name of the file."""
    try:
        with _landing(path) as file:
            return await fetch(api, target, which=which, output=file, meter=meter)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def _landing(path: Path) -> Iterator[BinaryIO]:
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    if path.is_symlink():
        path = Path(os.path.realpath(path))  # the link stays, as with cp
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # a strange way to say what it is not
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error
    # Not made of the name: with more to it that could be too long.
    partial = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


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
            for path in sorted(_files_below(source)):
                found.append((path, prefix + path.relative_to(source).as_posix()))
        elif len(sources) == 1 and target is not None and not is_prefix:
            found.append((source, target))
        else:
            prefix = target or ""
            if prefix and not is_prefix:
                prefix += "/"
            found.append((source, prefix + source.name))
    return found


def _files_below(folder: Path) -> Iterator[Path]:
    """Regular files and links, also dangling ones: those fail by name instead of missing
    from the copy. Pipes, sockets and devices are left out. Raises OSError for a folder that
    cannot be read."""

    def refuse(error: OSError) -> None:
        raise error

    for parent, _, names in os.walk(folder, onerror=refuse):
        for path in (Path(parent, name) for name in names):
            if path.is_file() or path.is_symlink():
                yield path


def total_bytes(todo: list[Upload]) -> int | None:
    """What there is to send, None while that cannot be known."""
    found = 0
    for upload in todo:
        if upload.source is None or not upload.source.is_file():
            return None
        found += upload.source.stat().st_size
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
