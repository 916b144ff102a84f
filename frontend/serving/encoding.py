"""gzip on the fly, where the client asks for it and the bytes are worth it."""

import re
import zlib

GZIP_BYTES_SMALL = 256
"""So short an answer is encoded whenever asked: nobody minds gzip's twenty bytes."""
_GZIP_WINDOW = 31
_LEVEL = 1
_Q = re.compile(r"q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")


def accepts_gzip(header: str | None) -> bool:
    """Whether Accept-Encoding names gzip with a weight above 0 and not below identity's.

    `*` alone does not ask for gzip; `gzip;q=0` refuses it.
    """
    weights: dict[str, float] = {}
    for item in (header or "").split(","):
        coding, _, parameters = item.strip().partition(";")
        match = _Q.fullmatch(parameters.strip()) if parameters else None
        if parameters and match is None:
            continue
        weights[coding.strip().lower()] = float(match[1]) if match else 1.0
    gzip = weights.get("gzip", weights.get("x-gzip", 0.0))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


def gzip_whole(plain: bytes) -> bytes | None:
    """The encoded bytes; None where encoding would not make a longer answer shorter."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    encoded = compressor.compress(plain) + compressor.flush()
    if len(encoded) >= len(plain) and len(plain) > GZIP_BYTES_SMALL:
        return None
    return encoded


class GzipStream:
    """Encodes an answer piece by piece."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)

    def piece(self, plain: bytes | bytearray | memoryview) -> bytes:
        """What can be sent after this piece; may be empty."""
        return self._compressor.compress(plain)

    def end(self) -> bytes:
        """What remains."""
        return self._compressor.flush()
