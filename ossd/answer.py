"""The answer side of HTTP/1.1, as a parser without I/O (RFC 9112).

It takes bytes in any pieces and gives the status, the headers and the body's pieces. It is
strict where leniency could make two parties disagree on where an answer ends.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

HEAD_BYTES_MAX: Final = 64 * 1024
LINE_BYTES_MAX: Final = 4 * 1024

_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n]*)?")
_HEX = re.compile(rb"[0-9A-Fa-f]{1,15}")


class MalformedAnswer(Exception):
    """What the peer sends is no answer in HTTP/1.1, or ends before its end."""


class Headers(Mapping[str, str]):
    """Header fields by name, whatever its case; repeated ones joined by commas."""

    __slots__ = ("_values",)

    def __init__(self, lines: list[str]) -> None:
        self._values: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise MalformedAnswer(f"a header line is not understood: {line[:80]!r}")
            name, value = name.lower(), value.strip(" \t")
            known = self._values.get(name)
            self._values[name] = value if known is None else f"{known}, {value}"

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({self._values!r})"


class AnswerParser:
    """One answer to a request of that method.

    `pieces` collects the body; its user takes them out as it likes. `done` once the answer
    is whole; `reusable` then tells whether the connection may carry another request.
    """

    def __init__(self, method: str) -> None:
        self.status = 0
        self.headers = Headers([])
        self.pieces: list[bytes] = []
        self.done = False
        self.reusable = False
        self._no_body = method == "HEAD"
        self._keep_alive = False
        self._input = bytearray()
        self._left_bytes: int | None = None  # of the body or the present chunk
        self._step = self._read_head

    def feed(self, data: bytes) -> None:
        """Take what the peer sent next. Raises MalformedAnswer."""
        if self._step == self._read_fixed and not self._input:
            self._take_fixed(data)  # the common case, without a copy through the buffer
            return
        self._input += data
        while self._step():
            pass

    def end(self) -> None:
        """The peer has closed. Raises MalformedAnswer if the answer is not whole by that."""
        if self.done:
            return
        if self._step != self._read_until_close:
            raise MalformedAnswer("the connection was closed before the end of the answer")
        self.done = True

    # Each step returns whether the next one may have something to do at once.

    def _read_head(self) -> bool:
        end = self._input.find(b"\r\n\r\n")
        if end < 0 or end > HEAD_BYTES_MAX:
            if len(self._input) > HEAD_BYTES_MAX:
                raise MalformedAnswer("the head of the answer does not end")
            return False
        text = self._input[:end].decode("latin1")
        lines = text.split("\r\n")
        if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
            raise MalformedAnswer("the head of the answer has a bare line break")
        del self._input[: end + 4]
        match = _STATUS_LINE.fullmatch(lines[0])
        if match is None:
            raise MalformedAnswer(f"the status line is not understood: {lines[0][:80]!r}")
        self.status = int(match[2])
        self.headers = Headers(lines[1:])
        if self.status < 200:
            return True  # an interim answer: the real one follows
        connection = self.headers.get("connection", "").lower()
        self._keep_alive = match[1] == "1" and "close" not in connection
        self._begin_body()
        return True

    def _begin_body(self) -> None:
        coding, length = self.headers.get("transfer-encoding"), self.headers.get("content-length")
        if self._no_body or self.status in (204, 304):
            self._finish()
        elif coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise MalformedAnswer("the length of the answer is ambiguous")
            self._step = self._read_chunk_size
        elif length is not None:
            if not length.isascii() or not length.isdecimal():
                raise MalformedAnswer(f"the Content-Length is not understood: {length[:80]!r}")
            self._left_bytes = int(length)
            self._step = self._read_fixed
        else:
            self._keep_alive = False
            self._step = self._read_until_close

    def _read_fixed(self) -> bool:
        data = bytes(self._input)
        self._input.clear()
        self._take_fixed(data)
        return False

    def _take_fixed(self, data: bytes) -> None:
        left_bytes = self._left_bytes or 0
        if len(data) > left_bytes:
            self._input += data[left_bytes:]
            data = data[:left_bytes]
        if data:
            self.pieces.append(data)
        self._left_bytes = left_bytes - len(data)
        if not self._left_bytes:
            self._finish()

    def _read_until_close(self) -> bool:
        if self._input:
            self.pieces.append(bytes(self._input))
            self._input.clear()
        return False

    def _line(self) -> bytes | None:
        end = self._input.find(b"\r\n")
        if end < 0 and len(self._input) <= LINE_BYTES_MAX:
            return None
        if not 0 <= end <= LINE_BYTES_MAX:
            raise MalformedAnswer("a line of a chunked answer does not end")
        line = bytes(self._input[:end])
        del self._input[: end + 2]
        return line

    def _read_chunk_size(self) -> bool:
        line = self._line()
        if line is None:
            return False
        size = line.partition(b";")[0].rstrip(b" \t")
        if _HEX.fullmatch(size) is None:
            raise MalformedAnswer(f"a chunk size is not understood: {line[:80]!r}")
        self._left_bytes = int(size, 16)
        self._step = self._read_chunk if self._left_bytes else self._read_trailer
        return True

    def _read_chunk(self) -> bool:
        left_bytes = self._left_bytes or 0
        data = bytes(self._input[:left_bytes])
        if data:
            self.pieces.append(data)
            del self._input[: len(data)]
            self._left_bytes = left_bytes = left_bytes - len(data)
        if left_bytes or len(self._input) < 2:
            return False
        if self._input[:2] != b"\r\n":
            raise MalformedAnswer("a chunk does not end where it should")
        del self._input[:2]
        self._step = self._read_chunk_size
        return True

    def _read_trailer(self) -> bool:
        line = self._line()
        if line == b"":
            self._finish()
        return bool(line)

    def _finish(self) -> None:
        self.done = True
        # Bytes behind the end belong to no request of ours: drop that connection.
        self.reusable = self._keep_alive and not self._input
        self._step = self._read_nothing

    def _read_nothing(self) -> bool:
        self.reusable = self.reusable and not self._input
        return False
