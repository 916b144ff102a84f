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
    ["undelete", "x", "--since", "2h"],
    ["restore-prefix", "x", "--at", "2h"],
    ["ls", "--at", "2h"],
    ["stat", "x"],
    ["bucket", "ls"],
    ["bucket", "create", "new"],
    ["bucket", "rm", "new"],
    ["bucket", "set", "new", "--keep-versions", "3"],
    ["bucket", "stat", "new"],
    ["prune"],
    ["prune", "x", "--yes"],
    ["scan"],
    ["scan", "bucket", "--repair"],
    ["repair", "orphans"],
    ["cluster", "status"],
    ["census"],
    ["scrub", "status"],
    ["scrub", "now"],
    ["scrub", "pause", "blob-1"],
    ["scrub", "resume"],
    ["census", "--now"],
    ["key", "create", "-s", "info"],
    ["key", "ls"],
    ["key", "show", "a"],
    ["key", "set", "a", "--disable"],
    ["key", "rotate", "a"],
    ["key", "revoke", "a"],
    ["token", "create", "0" * 64, "--type", "upload"],
    ["token", "revoke", "a" * 24],
    ["token", "keys"],
    ["token", "rotate-key"],
    ["token", "set-system"],
    ["audit", "ls"],
    ["share", "x"],
]
"""One of each command that asks a frontend; `file` and `tree` are to exist."""


def ossctl(endpoint: str, *words: str, access_key: str = "a", secret_key: str = "b") -> Result:
    """Run a command against an endpoint; an exception that escapes it fails the test."""
    keys = {
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "OSS_ENDPOINT": endpoint,
    }
    result = CliRunner().invoke(app, list(words), env=keys)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
