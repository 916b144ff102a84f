"""What a version keeps of a request's headers, and gives back."""

from collections.abc import Iterable, Mapping

from osscore.errors import InvalidArgument
from osscore.model import ObjectAttributes

PROFILE_HEADER = "X-Oss-Profile"
CONTENT_TYPE_DEFAULT = "application/octet-stream"
USER_PREFIX = "x-oss-meta-"
USER_BYTES_MAX = 8 * 1024
CONTENT_HEADERS = (
    "content-type",
    "content-disposition",
    "content-encoding",
    "content-language",
    "cache-control",
    "expires",
)


def content_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The content headers to keep, by lower-case name. Raises InvalidArgument."""
    found = {name: headers[name] for name in CONTENT_HEADERS if headers.get(name)}
    _check_size(found, "content headers")
    return found


def user_metadata(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """`X-Oss-Meta-*` by lower-case name without the prefix. Raises InvalidArgument."""
    found: dict[str, str] = {}
    for name, value in headers:
        lower = name.lower()
        if lower.startswith(USER_PREFIX):
            short = lower[len(USER_PREFIX) :]
            found[short] = f"{found[short]},{value}" if short in found else value
    _check_size(found, "user metadata")
    return found


def kept_headers(attributes: ObjectAttributes) -> dict[str, str]:
    """The headers of an answer that a version's PUT gave."""
    kept = {"Content-Type": CONTENT_TYPE_DEFAULT}
    kept.update({name.title(): value for name, value in attributes.content.items()})
    kept.update({f"X-Oss-Meta-{name}": value for name, value in attributes.user.items()})
    return kept


def _check_size(found: Mapping[str, str], what: str) -> None:
    size_bytes = sum(len(name.encode()) + len(value.encode()) for name, value in found.items())
    if size_bytes > USER_BYTES_MAX:
        raise InvalidArgument(f"The {what} may have {USER_BYTES_MAX} bytes, not {size_bytes}.")
