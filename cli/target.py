"""How objects are named on the command line.

`NAME` is an object of the bucket `objects` (or of `--bucket`); `oss://BUCKET/NAME` and
`s3://BUCKET/NAME` name the bucket too.
"""

from dataclasses import dataclass
from typing import Annotated

import typer

from cli.output import UsageError
from osscore.errors import InvalidArgument, InvalidName
from osscore.model import Profile
from osscore.names import BucketName, ObjectKey

DEFAULT_BUCKET = "objects"
Bucket = Annotated[str | None, typer.Option("--bucket", "-b", help="Bucket (default: objects).")]
Name = Annotated[str, typer.Argument(help="Object name, or oss://BUCKET/NAME.")]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Everything below.")]


@dataclass(frozen=True, slots=True)
class Target:
    """A bucket and a key or key prefix, which may be empty."""

    bucket: str
    key: str

    def __str__(self) -> str:
        if self.bucket == DEFAULT_BUCKET and not self.key.startswith(("oss://", "s3://")):
            return self.key
        return f"oss://{self.bucket}/{self.key}"


def parse_prefix(text: str, bucket: str | None) -> Target:
    """A target whose key may be empty. Raises UsageError."""
    for scheme in ("oss://", "s3://"):
        if text.startswith(scheme):
            named, _, key = text.removeprefix(scheme).partition("/")
            if bucket and bucket != named:
                raise UsageError(f"{text} names another bucket than --bucket {bucket}")
            return Target(parse_bucket(named), key)
    return Target(parse_bucket(bucket or DEFAULT_BUCKET), text)


def parse_object(text: str, bucket: str | None) -> Target:
    """A target that names one object. Raises UsageError."""
    target = parse_prefix(text, bucket)
    try:
        ObjectKey.parse(target.key)
    except InvalidName as error:
        raise UsageError(error.message) from error
    return target


def parse_bucket(text: str) -> str:
    """The name of a bucket. Raises UsageError."""
    try:
        return BucketName.parse(text)
    except InvalidName as error:
        raise UsageError(error.message) from error


def checked_profile(text: str) -> str:
    """A redundancy k+m. Raises UsageError."""
    try:
        return str(Profile.parse(text))
    except InvalidArgument as error:
        raise UsageError(error.message) from error
