"""Names in request paths: percent-decoded once, kept exactly."""

import re
from urllib.parse import unquote_to_bytes

from osscore.errors import InvalidName
from osscore.names import BucketName, ObjectKey

DEFAULT_BUCKET = "objects"
"""Where `/objects/<name>` keeps its objects."""

_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def decoded(raw: str) -> str:
    """A path piece as text. Raises InvalidName unless it is valid UTF-8, percent-encoded."""
    if _STRAY_PERCENT.search(raw):
        raise InvalidName("A '%' in the path begins two hex digits; write '%25' for itself.")
    try:
        # The request line came as Latin-1; bytes sent without encoding are UTF-8 too.
        return unquote_to_bytes(raw.encode("latin-1")).decode("utf-8")
    except UnicodeError as error:
        raise InvalidName("A name must be valid UTF-8.") from error


def after(path: str, prefix: str) -> str:
    """The decoded rest of `path` behind `prefix`; slashes stay as they are."""
    return decoded(path[len(prefix) :])


def object_of(path: str) -> tuple[str, str]:
    """Bucket and key of `/objects/KEY` or `/buckets/BUCKET/objects/KEY`. Raises InvalidName."""
    if path.startswith("/objects/"):
        return DEFAULT_BUCKET, key(after(path, "/objects/"))
    bucket, rest = bucket_and_rest(path, "/objects/")
    return bucket, key(rest)


def key(text: str) -> str:
    """A checked object name, as a plain str: the wire encodes no subclass. Raises InvalidName."""
    return str(ObjectKey.parse(text))


def bucket_and_rest(path: str, collection: str) -> tuple[str, str]:
    """Bucket and decoded rest of `/buckets/BUCKET<collection>REST`. Raises InvalidName."""
    raw = path[len("/buckets/") :]
    bucket, _, rest = raw.partition("/")
    return str(BucketName.parse(decoded(bucket))), after("/" + rest, collection)


def bucket_of(path: str) -> str:
    """Bucket of `/buckets/BUCKET...`. Raises InvalidName."""
    return str(BucketName.parse(decoded(path[len("/buckets/") :].partition("/")[0])))
