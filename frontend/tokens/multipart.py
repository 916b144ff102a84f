"""The part `file` of a multipart/form-data body (RFC 7578), as a stream while it arrives."""

import asyncio
import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Mapping

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from frontend.tokens.part_headers import clean_file_name, parameters, text_of
from osscore.errors import IncompleteBody, MalformedBody
from ossd.disk import Bytes

PART = "file"
BESIDE_BYTES_MAX = 1024 * 1024
"""Most bytes of a body that are not the file's: boundaries, headers, other parts, what comes
before the first part and after the last."""
BEFORE_BYTES_MAX = 64 * 1024
"""Most bytes before the first boundary."""
HEADER_BYTES_MAX = 8 * 1024
HEADERS_MAX = 32
_SLICE_BYTES = 64 * 1024
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,199}[0-9A-Za-z'()+_,./:=?-]")
_CONTENT_TYPE = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,254}")


class FormFile:
    """The bytes of the file of a form, piece by piece; the rest of the body is read and left.

    `begin` reads up to the file, to learn `file_name` and `content_type` (empty if not
    given); iterating does so by itself. Both raise MalformedBody (no form, no part `file`, or
    two), IncompleteBody (no closing boundary), InvalidArgument (file name), and whatever the
    body raises. The end is given only after the whole body was seen to be well-formed.
    """

    def __init__(self, headers: Mapping[str, str], body: AsyncIterator[Bytes]) -> None:
        self.file_name = ""
        self.content_type = ""
        boundary = _boundary(headers.get("Content-Type", ""))
        self._delimiter = b"--" + boundary
        self._body = body
        self._form = _Form(boundary)
        self._before = b""
        self._began = False

    async def begin(self) -> None:
        """Read until the file begins."""
        while self._form.file_headers is None:
            if not await self._read():
                raise MalformedBody(f"The form has no part named `{PART}`.")
        if not self._began:
            self._began = True
            headers = self._form.file_headers
            disposition = text_of(headers.get("content-disposition", b""))
            self.file_name = clean_file_name(parameters(disposition).get("filename", ""))
            content_type = text_of(headers.get("content-type", b"")).strip()
            self.content_type = content_type if _CONTENT_TYPE.fullmatch(content_type) else ""

    def __aiter__(self) -> "FormFile":
        return self

    async def __anext__(self) -> Bytes:
        if not self._began:
            await self.begin()
        while not self._form.pieces:
            if not await self._read():
                raise StopAsyncIteration
        return self._form.pieces.popleft()

    async def _read(self) -> bool:
        """Parse what comes next; False at the end of a whole form."""
        try:
            piece = await self._body.__anext__()
        except StopAsyncIteration:
            if not self._form.has_begun:
                raise MalformedBody("The body does not hold the boundary it declares.") from None
            if not self._form.is_complete:
                raise IncompleteBody("The form ends before its closing boundary.") from None
            self._form.check_beside(slack_bytes=0)
            return False
        view = memoryview(piece)
        for at in range(0, len(view), _SLICE_BYTES):
            if at:
                # A form made of near-boundaries takes long to parse: others must have their turn.
                await asyncio.sleep(0)
            self._parse(bytes(view[at : at + _SLICE_BYTES]))
        return True

    def _parse(self, data: bytes) -> None:
        if self._form.has_begun:
            self._form.write(data)
            return
        # The parser would take the first line for a boundary; before that anything may stand.
        self._before += data
        at = _line_start(self._before, self._delimiter)
        # A line may have begun at the very limit, and is not all here.
        sought_bytes = len(self._before) - len(self._delimiter) - 2
        if max(at, sought_bytes) > BEFORE_BYTES_MAX and not 0 <= at <= BEFORE_BYTES_MAX:
            raise MalformedBody("The body does not begin with the boundary it declares.")
        if at >= 0:
            self._form.skipped(at)
            self._form.write(self._before[at:])
            self._before = b""


class _Form:
    """The parser's events, turned into the headers and the pieces of one part."""

    def __init__(self, boundary: bytes) -> None:
        self.pieces: deque[memoryview] = deque()
        self.file_headers: dict[str, bytes] | None = None
        self.is_complete = False
        self.has_begun = False
        self._in_file = False
        self._seen_bytes = 0
        self._file_bytes = 0
        self._slack_bytes = len(boundary) + 8
        self._headers: dict[str, bytes] = {}
        self._name = self._value = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
            max_header_count=HEADERS_MAX,
            max_header_size=HEADER_BYTES_MAX,
        )
        # It warns of each bad form; the client is told, and nobody else has to act.
        self._parser.logger = logging.Logger("multipart", logging.CRITICAL)

    def skipped(self, size_bytes: int) -> None:
        """So much stood before the first boundary."""
        self._seen_bytes += size_bytes

    def write(self, data: bytes) -> None:
        """Parse more. Raises MalformedBody."""
        self.has_begun = True
        self._seen_bytes += len(data)
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise MalformedBody(f"The form cannot be read: {error}.") from error
        # Bytes that may yet turn out to be the file's are not counted against the client.
        self.check_beside(slack_bytes=self._slack_bytes)

    def check_beside(self, *, slack_bytes: int) -> None:
        """Raises MalformedBody if too much of the body is not the file's."""
        if self._seen_bytes - self._file_bytes - slack_bytes > BESIDE_BYTES_MAX:
            raise MalformedBody(f"Beside the file a form may have {BESIDE_BYTES_MAX} bytes.")

    # --- the parser's calls ------------------------------------------------------------------

    def _on_part_begin(self) -> None:
        self._headers = {}

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers.setdefault(self._name.decode("latin-1").lower(), self._value)
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        disposition = text_of(self._headers.get("content-disposition", b""))
        if parameters(disposition).get("name") != PART:
            return
        if self.file_headers is not None:
            raise MalformedBody(f"The form has two parts named `{PART}`.")
        self.file_headers = self._headers
        self._in_file = True

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._file_bytes += end - start
            self.pieces.append(memoryview(data)[start:end])

    def _on_part_end(self) -> None:
        self._in_file = False

    def _on_end(self) -> None:
        self.is_complete = True


def _boundary(content_type: str) -> bytes:
    """The boundary of a form's body. Raises MalformedBody if it is none."""
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise MalformedBody(f"Send multipart/form-data with a part named `{PART}`.")
    boundary = parameters(content_type).get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise MalformedBody("The Content-Type declares no boundary that can be one.")
    return boundary.encode("ascii")


def _line_start(data: bytes, delimiter: bytes) -> int:
    """Where the first line that begins with `delimiter` does; -1: nowhere yet."""
    if data.startswith(delimiter):
        return 0
    at = data.find(b"\r\n" + delimiter)
    return at + 2 if at >= 0 else -1
