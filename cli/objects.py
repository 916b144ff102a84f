"""Commands on objects: put, get, cat, ls, versions, rm, undelete, stat."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cli import api as http
from cli.api import Api, object_path
from cli.cluster import AsJson, Dir, Endpoint
from cli.connection import connect
from cli.output import (
    UsageError,
    console,
    errors_as_exit_codes,
    facts,
    human_bytes,
    human_time,
    print_json,
    print_table,
)
from cli.target import Target, parse_object, parse_prefix
from cli.transfer import (
    PARALLEL_FILES,
    Upload,
    fetch,
    fetch_to_file,
    local_path,
    progress,
    uploads,
)
from cli.transfer import (
    put as put_one,
)
from osscore.errors import NoSuchKey

Bucket = Annotated[str | None, typer.Option("--bucket", "-b", help="Bucket (default: objects).")]
Name = Annotated[str, typer.Argument(help="Object name, or oss://BUCKET/NAME.")]
Version = Annotated[int | None, typer.Option("--version", min=1, help="Number of a version.")]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Everything below.")]
PAGE = "1000"


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
        if profile:
            headers["X-Oss-Profile"] = profile
        if content_type:
            headers["Content-Type"] = content_type
        sizes = [u.source.stat().st_size for u in todo if u.source]
        total = sum(sizes) if len(sizes) == len(todo) else None

        async def work(api: Api) -> None:
            with progress(total, shown=not as_json) as meter:

                async def store(upload: Upload) -> None:
                    found = await put_one(api, upload, headers=headers, meter=meter)
                    if as_json:
                        print_json(found)
                    else:
                        console().print(
                            f"{upload.target}  version {found['version']}  "
                            f"{human_bytes(found['size'])}",
                            markup=False,
                        )

                await _each(todo, store)

        http.run(connection, work)


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
    return [Upload(path, Target(where, parse_object_key(key))) for path, key in pairs]


def parse_object_key(key: str) -> str:
    """The key itself, checked. Raises UsageError."""
    return parse_object(f"oss://objects/{key}", None).key


def get(
    name: Name,
    target: Annotated[
        str | None, typer.Argument(help="File, existing folder, or - for standard output.")
    ] = None,
    version: Version = None,
    bucket: Bucket = None,
    recursive: Recursive = False,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Fetch an object into a file, or with -r everything below a prefix into a folder."""
    with errors_as_exit_codes():
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        if recursive:
            prefix = parse_prefix(name, bucket)
            folder = Path(target or ".")
            http.run(connection, lambda api: _get_tree(api, prefix, folder, as_json=as_json))
            return
        source = parse_object(name, bucket)
        if target == "-":
            http.run(connection, lambda api: _to_stdout(api, source, version))
            return
        path = _file_for(source, target)

        async def work(api: Api) -> None:
            with progress(None, shown=not as_json) as meter:
                size = await fetch_to_file(api, source, path, version=version, meter=meter)
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


async def _get_tree(api: Api, prefix: Target, folder: Path, *, as_json: bool) -> None:
    # 'photos' means the folder photos/, never also 'photos-old/...'.
    whole = prefix.key if not prefix.key or prefix.key.endswith("/") else prefix.key + "/"
    found = [entry async for entry in _objects(api, prefix.bucket, whole)]
    if not found:
        raise NoSuchKey(f"there is nothing below {prefix}")
    jobs = [
        (Target(prefix.bucket, e["key"]), local_path(folder, e["key"][len(whole) :])) for e in found
    ]
    with progress(sum(e["size"] for e in found), shown=not as_json) as meter:

        async def one(job: tuple[Target, Path]) -> None:
            size = await fetch_to_file(api, job[0], job[1], version=None, meter=meter)
            _say_fetched(job[0], job[1], size, as_json=as_json)

        await _each(jobs, one)


async def _to_stdout(api: Api, source: Target, version: int | None) -> None:
    await fetch(
        api,
        source,
        version=version,
        headers={},
        output=sys.stdout.buffer,
        meter=lambda _size: None,
    )
    sys.stdout.buffer.flush()


def cat(
    name: Name,
    version: Version = None,
    bucket: Bucket = None,
    directory: Dir = None,
    endpoint: Endpoint = None,
) -> None:
    """Write an object to standard output."""
    with errors_as_exit_codes():
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        source = parse_object(name, bucket)
        http.run(connection, lambda api: _to_stdout(api, source, version))


def ls(
    prefix: Annotated[
        str, typer.Argument(help="Prefix, or oss://BUCKET/PREFIX; oss:// lists buckets.")
    ] = "",
    bucket: Bucket = None,
    long: Annotated[bool, typer.Option("--long", "-l", help="Size, time and version.")] = False,
    recursive: Recursive = False,
    versions: Annotated[bool, typer.Option("--versions", help="Every version.")] = False,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """List objects; folders end with '/'."""
    with errors_as_exit_codes():
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        if prefix in ("oss://", "s3://"):
            http.run(connection, lambda api: _list_buckets(api, as_json=as_json))
            return
        target = parse_prefix(prefix, bucket)
        if versions:
            http.run(connection, lambda api: _print_versions(api, target, None, as_json=as_json))
            return
        delimiter = "" if recursive else "/"

        async def work(api: Api) -> None:
            async for page in _pages(api, target.bucket, target.key, delimiter):
                _print_page(page, long=long, as_json=as_json)

        http.run(connection, work)


def _print_page(page: dict[str, Any], *, long: bool, as_json: bool) -> None:
    # Objects and folders in one order, as they would sort as names.
    entries = [(e["key"], e) for e in page["objects"]] + [(p, None) for p in page["prefixes"]]
    rows = []
    for key, entry in sorted(entries, key=lambda pair: pair[0].encode()):
        if as_json:
            print_json(entry or {"prefix": key})
        elif not long:
            console().print(key, markup=False)
        elif entry is None:
            rows.append(["", "", "", key])
        else:
            rows.append(
                [
                    human_bytes(entry["size"]),
                    human_time(entry["modified"]),
                    str(entry["version"]),
                    key,
                ]
            )
    if rows:
        print_table(["SIZE", "MODIFIED", "VERSION", "NAME"], rows)


async def _pages(
    api: Api, bucket: str, prefix: str, delimiter: str
) -> AsyncIterator[dict[str, Any]]:
    after = ""
    while True:
        query = {"prefix": prefix, "delimiter": delimiter, "after": after, "limit": PAGE}
        page = await api.json("GET", f"/buckets/{quote(bucket)}/objects", query=query)
        yield page
        if page["next"] is None:
            return
        after = page["next"]


async def _objects(api: Api, bucket: str, prefix: str) -> AsyncIterator[dict[str, Any]]:
    async for page in _pages(api, bucket, prefix, ""):
        for entry in page["objects"]:
            yield entry


async def _list_buckets(api: Api, *, as_json: bool) -> None:
    found = await api.json("GET", "/buckets")
    for entry in found["buckets"]:
        if as_json:
            print_json(entry)
        else:
            console().print(f"oss://{entry['name']}", markup=False)


def versions(
    name: Name,
    bucket: Bucket = None,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Show every version of an object, newest first."""
    with errors_as_exit_codes():
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        target = parse_object(name, bucket)
        http.run(connection, lambda api: _print_versions(api, target, target.key, as_json=as_json))


async def _print_versions(api: Api, target: Target, key: str | None, *, as_json: bool) -> None:
    rows = []
    async for entry in _versions(api, target, key):
        if as_json:
            print_json(entry)
            continue
        size = "deleted" if entry["is_marker"] else human_bytes(entry["size"])
        rows.append(
            [
                str(entry["version"]),
                size,
                human_time(entry["modified"]),
                "current" if entry["is_latest"] else "",
                entry["key"],
            ]
        )
    if not as_json and rows:
        print_table(["VERSION", "SIZE", "MODIFIED", "", "NAME"], rows)
    if key is not None and not rows and not as_json:
        raise NoSuchKey(f"there is no object {target}")


async def _versions(api: Api, target: Target, key: str | None) -> AsyncIterator[dict[str, Any]]:
    path = f"/buckets/{quote(target.bucket)}/versions"
    query = {"prefix": target.key, "limit": PAGE}
    if key is not None:
        path, query = f"{path}/{quote(key, safe='/')}", {"limit": PAGE}
    while True:
        page = await api.json("GET", path, query=query, headers={"Accept": "application/json"})
        for entry in page["versions"]:
            yield entry
        if page["next"] is None:
            return
        query["after"] = page["next"]


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
            found = [e["key"] async for e in _objects(api, target.bucket, target.key)]
            if not found:
                raise NoSuchKey(f"there is nothing below {target}")
            await _each(found, lambda key: remove(api, Target(target.bucket, key)))

        http.run(connection, work)


def undelete(
    name: Name,
    bucket: Bucket = None,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Bring back the version that was current before the object was deleted."""
    with errors_as_exit_codes():
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        target = parse_object(name, bucket)
        path = object_path(target.bucket, target.key)
        found = http.run(connection, lambda api: api.json("POST", path, query={"undelete": "1"}))
        if as_json:
            print_json(found)
        else:
            console().print(f"{target} is back: version {found['version']}", markup=False)


def stat(
    name: Name,
    version: Version = None,
    bucket: Bucket = None,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Show what is known of an object without fetching it."""
    with errors_as_exit_codes():
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        target = parse_object(name, bucket)

        async def work(api: Api) -> dict[str, Any]:
            query = {} if version is None else {"version": str(version)}
            path = object_path(target.bucket, target.key)
            async with api.request("HEAD", path, query=query) as answer:
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


async def _each(items: Iterable[Any], work: Any) -> None:
    """Run `work` on each item, PARALLEL_FILES at a time; the first error stops the rest."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(PARALLEL_FILES):
            group.create_task(worker())
