"""Paths that try to be files, and the files there are."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

MARK = "tricked-out"
"""In every name a trick would give a file."""
TEMPLATES = (
    "/objects/{}",
    "/versions/{}",
    "/locate/{}",
    "/temp/{}",
    "/buckets/objects/objects/{}",
    "/buckets/{}",
    "/buckets/{}/objects/x",
    "/buckets/objects/versions/{}",
    "/share/{}",
    "/v1/keys/{}",
    "/v1/tokens/{}",
    "/upload/single/{}",
    "/upload/finish?file_name={}",
    "/download/{}",
    "/download?token={}",
    "/file/info?hash={}",
    "/{}",
)
BLOB_TEMPLATES = ("/temp/{}", "/{}", "/v1/{}", "/v1/temp/{}")
UP = ("..", "%2e%2e", "%2E.", "..%00", "%252e%252e", "%c0%ae%c0%ae", "%e0%80%ae%e0%80%ae", "．．")
SLASH = ("/", "%2f", "%5c", "\\", "%252f", "%c0%af", "//")


def endings() -> Iterator[str]:
    """What is put into a template: as it stands on the wire, not escaped any further."""
    for up in UP:
        for slash in SLASH:
            yield quote(slash.join([up] * 6 + ["tmp", MARK]), safe="%/\\")
    yield from (
        f"/tmp/{MARK}",
        f"//tmp/{MARK}",
        f"%2ftmp%2f{MARK}",
        f"%5c%5ctmp%5c{MARK}",
        f"file:///tmp/{MARK}",
        f"C:%5c{MARK}",
        f"~/{MARK}",
        f"~root/{MARK}",
        f"$HOME/{MARK}",
        f"{MARK}%00.txt",
        f"%00{MARK}",
        f"{MARK}%0d%0aX-Injected:%20yes",
        f"{MARK}%0a",
        f"{MARK}%ff%fe",
        f"{MARK}%ed%a0%80",
        f"{MARK}%f4%90%80%80",
        f"{MARK}%zz",
        f"{MARK}%",
        f"{MARK}%2",
        f"{MARK}%u002e",
        f".{MARK}",
        f"{MARK}.",
        f"{MARK}/.",
        f"{MARK}/..",
        f"./{MARK}",
        f"-{MARK}",
        f"{MARK}|id",
        f"{MARK};id",
        f"$(touch%20{MARK})",
        f"`touch%20{MARK}`",
        f"'{MARK}'--",
        f"{MARK}" + "n" * 1013,
        f"{MARK}" + "n" * 1014,
        f"{MARK}" + "n" * 20_000,
        f"{MARK}/" * 84,
        f"{MARK}/" * 300,
        "%2e%2e%2f" * 100 + MARK,
        "%F0%9F%A6%80" * 200 + MARK,
        "..",
        ".",
        "%2e",
        "/",
        "//",
        "%2f",
        "%00",
        "?",
        "#",
        ";",
        "*",
    )


OUTSIDE = ("/", "/etc", "/tmp", "/var/tmp", "/root", "/home", "/dev/shm", str(Path.home()))


def names_around(folder: Path) -> dict[str, set[str]]:
    """Where a trick might land -> the names there that carry the mark, and below `folder`
    every name outside of data folders and logs."""
    found = {}
    for place in OUTSIDE:
        here = Path(place)
        names = {path.name for path in here.iterdir()} if here.is_dir() else set()
        found[place] = {name for name in names if MARK in name}
    below = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    found["marked"] = {name for name in below if MARK in name}
    data = ("/meta-", "/blob-", "/logs/")
    found["around"] = {name for name in below if not any(part in f"/{name}" for part in data)}
    return found
