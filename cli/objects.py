"""Commands on objects: put, get, cat, rm, undelete, stat."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import api as http
from cli.api import Api, object_path
from cli.cluster import AsJson, Dir, Endpoint
from cli.connection import connect
from cli.fanout import each
from cli.listing import objects_below, why_gone
from cli.moments import HELP, At, parse_since, which_version
from cli.output import (
    UsageError,
    console,
    errors_as_exit_codes,
    facts,
    human_bytes,
    print_json,
)
from cli.progress import progress
from cli.resuming import is_resumable, put_resumably
from cli.target import (
    Bucket,
    Name,
    Recursive,
    Target,
    checked_profile,
    parse_object,
    parse_prefix,
)
from cli.timetravel import DryRun, Resume, resumed, travel
from cli.transfer import (
    Upload,
    fetch,
    fetch_to_file,
    local_path,
    total_bytes,
    uploads,
)
from cli.transfer import (
    put as put_one,
)
from osscore.errors import NoSuchKey, NoSuchVersion

Version = Annotated[int | None, typer.Option("--version", min=1, help="Number of a version.")]


def put(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... [NAME]",
            help="Files, folders (with -r) or - for standard input; then the object name. "
            "A name that ends with '/' is a prefix; several sources need one.",
        ),
    ],
    bucket: Bucket = None,
    recursive: Recursive = False,
    profile: Annotated[str | None, typer.Option(help="Redundancy k+m, such as 4+2.")] = None,
    content_type: Annotated[str | None, typer.Option(help="MIME type to keep.")] = None,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Store files as new versions of objects."""
    with errors_as_exit_codes():
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        todo = _plan_uploads(paths, bucket, recursive=recursive)
        headers = {}
        if profile is not None:
            headers["X-Oss-Profile"] = checked_profile(profile)
        if content_type is not None:
            headers["Content-Type"] = _header_value(content_type)
        http.run(connection, lambda api: _put_all(api, todo, headers, as_json=as_json))


async def _put_all(api: Api, todo: list[Upload], headers: dict[str, str], *, as_json: bool) -> None:
    with progress(total_bytes(todo), shown=not as_json) as meter:

        async def store(upload: Upload) -> None:
            if is_resumable(upload):
                found = await put_resumably(
                    api, upload, headers=headers, meter=meter, state=_uploads_under_way()
                )
            else:
                found = await put_one(api, upload, headers=headers, meter=meter)
            if as_json:
                print_json(found)
                return
            size = human_bytes(found["size"])
            console().print(f"{upload.target}  version {found['version']}  {size}", markup=False)

        await each(todo, store, name=lambda upload: str(upload.source or upload.target))


def _uploads_under_way() -> Path:
    """Where handles of unfinished uploads are kept (XDG base directories)."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    # Without a home this stays a relative path; Path.expanduser would raise.
    return Path(os.path.expanduser(state), "ossctl", "uploads")  # noqa: PTH111


def _header_value(text: str) -> str:
    if not text.strip() or not text.isascii() or not text.isprintable():
        raise UsageError(f"the content type {text!r} is not one line of ASCII")
    return text


def _plan_uploads(words: list[str], bucket: str | None, *, recursive: bool) -> list[Upload]:
    """Which file becomes which object. Like cp: with several words the last is the name."""
    sources, name = (words, None) if len(words) == 1 else (words[:-1], words[-1])
    base = parse_prefix(name, bucket) if name is not None else None
    if "-" in sources:
        if len(sources) > 1 or base is None:
            raise UsageError("standard input needs a name and stands alone: ossctl put - NAME")
        return [Upload(None, Target(base.bucket, parse_object_key(base.key)))]
    if len(sources) > 1 and base is not None and base.key and not base.key.endswith("/"):
        raise UsageError(
            f"several sources need a prefix that ends with '/' as the last word, not {name!r}"
        )
    where = base.bucket if base else parse_prefix("", bucket).bucket
    paths = [Path(source) for source in sources]
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
    pairs = uploads(paths, base.key if base else None, recursive=recursive)
    _refuse_same_names(pairs)
    return [Upload(path, Target(where, parse_object_key(key))) for path, key in pairs]


def _refuse_same_names(pairs: list[tuple[Path, str]]) -> None:
    seen: dict[str, Path] = {}
    for path, key in pairs:
        if key in seen:
            raise UsageError(f"{seen[key]} and {path} would both become {key}")
        seen[key] = path


def parse_object_key(key: str) -> str:
    """The key itself, checked. Raises UsageError."""
    return parse_object(f"oss://objects/{key}", None).key


def get(
    name: Name,
    target: Annotated[
        str | None, typer.Argument(help="File, existing folder, or - for standard output.")
    ] = None,
    version: Version = None,
    at: At = None,
    bucket: Bucket = None,
    recursive: Recursive = False,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Fetch an object into a file, or with -r everything below a prefix into a folder."""
    with errors_as_exit_codes():
        which = which_version(version, at)
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        if recursive:
            if version is not None:
                raise UsageError("--recursive and --version do not go together")
            if target == "-":
                raise UsageError("several objects need a folder, not standard output")
            prefix = parse_prefix(name, bucket)
            folder = Path(target or ".")
            if folder.exists() and not folder.is_dir():
                raise UsageError(f"{folder} is no folder")
            http.run(connection, lambda api: _get_tree(api, prefix, folder, which, as_json=as_json))
            return
        source = parse_object(name, bucket)
        if target == "-":
            http.run(connection, lambda api: _to_stdout(api, source, which))
            return
        path = _file_for(source, target)

        async def work(api: Api) -> None:
            with progress(None, shown=not as_json) as meter:
                size = await fetch_to_file(api, source, path, which=which, meter=meter)
            _say_fetched(source, path, size, as_json=as_json)

        http.run(connection, work)


def _file_for(source: Target, target: str | None) -> Path:
    last = source.key.rpartition("/")[2]
    if target is None:
        return local_path(Path(), last)
    path = Path(target)
    if path.is_dir() or target.endswith("/"):
        return local_path(path, last)
    return path


def _say_fetched(source: Target, path: Path, size_bytes: int, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {"bucket": source.bucket, "key": source.key, "file": str(path), "size": size_bytes}
        )
    else:
        console().print(f"{source}  ->  {path}  {human_bytes(size_bytes)}", markup=False)


async def _get_tree(
    api: Api, prefix: Target, folder: Path, then: Mapping[str, str], *, as_json: bool
) -> None:
    # 'photos' means the folder photos/, never also 'photos-old/...'.
    whole = prefix.key if not prefix.key or prefix.key.endswith("/") else prefix.key + "/"
    found = {e["key"]: e async for e in objects_below(api, prefix.bucket, whole, then)}
    if not found:
        raise NoSuchKey(f"there {'was' if then else 'is'} nothing below {prefix}")
    with progress(sum(e.get("size", 0) for e in found.values()), shown=not as_json) as meter:

        async def one(source: Target) -> None:
            entry = found[source.key]
            if "was" in entry:
                raise NoSuchVersion(why_gone(entry))
            path = local_path(folder, source.key[len(whole) :])
            which = {"version": str(entry["version"])} if then else {}
            size = await fetch_to_file(api, source, path, which=which, meter=meter)
            _say_fetched(source, path, size, as_json=as_json)

        await each([Target(prefix.bucket, key) for key in found], one, name=str)


async def _to_stdout(api: Api, source: Target, which: Mapping[str, str]) -> None:
    # Where the bytes themselves come out on the terminal a bar would lie among them.
    output = sys.stdout.buffer
    with progress(None, shown=not sys.stdout.isatty()) as meter:
        try:
            await fetch(api, source, which=which, output=output, meter=meter)
            output.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from error


def cat(
    name: Name,
    version: Version = None,
    at: At = None,
    bucket: Bucket = None,
    directory: Dir = None,
    endpoint: Endpoint = None,
) -> None:
    """Write an object to standard output."""
    with errors_as_exit_codes():
        which = which_version(version, at)
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        source = parse_object(name, bucket)
        http.run(connection, lambda api: _to_stdout(api, source, which))


def rm(
    name: Name,
    version: Version = None,
    bucket: Bucket = None,
    recursive: Recursive = False,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Delete an object (older versions stay), or with --version that version for good."""
    with errors_as_exit_codes():
        if recursive and version is not None:
            raise UsageError("--recursive and --version do not go together")
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        target = parse_prefix(name, bucket) if recursive else parse_object(name, bucket)

        async def remove(api: Api, one: Target) -> None:
            query = {} if version is None else {"version": str(version)}
            await api.json("DELETE", object_path(one.bucket, one.key), query=query)
            if as_json:
                print_json({"bucket": one.bucket, "key": one.key, "deleted": True})
            else:
                console().print(f"{one} deleted", markup=False)

        async def work(api: Api) -> None:
            if not recursive:
                await remove(api, target)
                return
            found = [e["key"] async for e in objects_below(api, target.bucket, target.key)]
            if not found:
                raise NoSuchKey(f"there is nothing below {target}")
            jobs = [Target(target.bucket, key) for key in found]
            await each(jobs, lambda one: remove(api, one), name=str)

        http.run(connection, work)


def undelete(
    name: Annotated[
        str, typer.Argument(help="Object name, or oss://BUCKET/NAME; with --since a prefix.")
    ] = "",
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help=f"Everything below that was deleted since: {HELP}"
        ),
    ] = None,
    dry_run: DryRun = False,
    resume: Resume = None,
    bucket: Bucket = None,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Bring back the version that was current before the object was deleted."""
    with errors_as_exit_codes():
        if since is None and (dry_run or resume):
            raise UsageError("--dry-run and --resume go with --since")
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        if since is not None:
            query = {"since": parse_since(since), **resumed(resume)}
            below = parse_prefix(name, bucket)
            travel(connection, "undelete", below, query, dry_run=dry_run, as_json=as_json)
            return
        target = parse_object(name, bucket)
        path = object_path(target.bucket, target.key)
        found = http.run(connection, lambda api: api.json("POST", path, query={"undelete": "1"}))
        if as_json:
            print_json(found)
        else:
            said = "is back:" if found["was_deleted"] else "was not deleted: it stays at"
            console().print(f"{target} {said} version {found['version']}", markup=False)


def stat(
    name: Name,
    version: Version = None,
    at: At = None,
    bucket: Bucket = None,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Show what is known of an object without fetching it."""
    with errors_as_exit_codes():
        which = which_version(version, at)
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        target = parse_object(name, bucket)

        async def work(api: Api) -> dict[str, Any]:
            path = object_path(target.bucket, target.key)
            async with api.request("HEAD", path, query=which) as answer:
                return {
                    "bucket": target.bucket,
                    "key": target.key,
                    "version": int(answer.headers["X-Version"]),
                    "version_id": answer.headers["X-Version-Id"],
                    "size": int(answer.headers["Content-Length"]),
                    "etag": answer.headers["ETag"].strip('"'),
                    "modified": answer.headers["Last-Modified"],
                    "content_type": answer.headers.get("Content-Type", ""),
                }

        found = http.run(connection, work)
        if as_json:
            print_json(found)
        else:
            facts({**found, "size": f"{found['size']} ({human_bytes(found['size'])})"})
