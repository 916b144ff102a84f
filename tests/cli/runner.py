"""Commands run in this process, against any endpoint."""

from typer.testing import CliRunner, Result

from cli.__main__ import app

EVERY_REQUEST = [
    ["put", "file"],
    ["put", "-r", "tree"],
    ["get", "x", "copy"],
    ["get", "-r", "x", "copies"],
    ["get", "x", "-"],
    ["cat", "x"],
    ["ls"],
    ["ls", "-l", "oss://bucket/x"],
    ["ls", "oss://"],
    ["ls", "--versions"],
    ["versions", "x"],
    ["rm", "x"],
    ["rm", "-r", "x"],
    ["undelete", "x"],
    ["stat", "x"],
    ["bucket", "ls"],
    ["bucket", "create", "new"],
    ["bucket", "rm", "new"],
    ["cluster", "status"],
]
"""One of each command that asks a frontend; `file` and `tree` are to exist."""


def ossctl(endpoint: str, *words: str, access_key: str = "a") -> Result:
    """Run a command against an endpoint; an exception that escapes it fails the test."""
    keys = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": "b", "OSS_ENDPOINT": endpoint}
    result = CliRunner().invoke(app, list(words), env=keys)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
