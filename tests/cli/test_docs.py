"""The documentation server: every page, every link, here and in an installation."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Awaitable, Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin, urlsplit

import aiohttp
import pytest
import setuptools

from cli.docs_server import start
from cli.pages import Pages, load, slug

ROOT = Path(__file__).parents[2]


class Links(HTMLParser):
    """What a page refers to, and the anchors it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.hrefs: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.hrefs += [given[name] or "" for name in ("href", "src") if given.get(name)]
        self.ids += [given["id"] or ""] if given.get("id") else []


Fetch = Callable[[str], Awaitable[tuple[int, str, str]]]


def served(story: Callable[[str, Fetch], Awaitable[None]], pages: Pages | None = None) -> None:
    """Let `story` happen with the server's base URL and a way to fetch (status, type, text)."""

    async def main() -> None:
        server = start(pages or load(), "127.0.0.1", 0)
        base = f"http://127.0.0.1:{server.port}"
        try:
            async with aiohttp.ClientSession() as session:

                async def fetch(url: str) -> tuple[int, str, str]:
                    async with session.get(url) as answer:
                        kind = answer.headers["Content-Type"].partition(";")[0]
                        return answer.status, kind, await answer.text()

                await story(base, fetch)
        finally:
            await server.stop(0.2)

    asyncio.run(main())


def test_no_link_of_any_page_is_broken() -> None:
    async def story(base: str, fetch: Fetch) -> None:
        found: dict[str, Links] = {}
        wanted: dict[str, list[tuple[str, str]]] = {}
        todo = [f"{base}/"]
        while todo:
            url = todo.pop()
            if url in found:
                continue
            status, kind, text = await fetch(url)
            assert status == 200, (url, wanted.get(url))
            found[url] = Links(text if kind == "text/html" else "")
            for href in found[url].hrefs:
                target, anchor = urldefrag(urljoin(url, href))
                if urlsplit(target).netloc != urlsplit(base).netloc:
                    continue
                wanted.setdefault(target, []).append((url, anchor))
                todo.append(target)
        for target, users in wanted.items():
            for user, anchor in users:
                assert not anchor or anchor in found[target].ids, f"{user}: {target}#{anchor}"
        files = {p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md")}
        assert {f"{base}/{path}" for path in {*files, "README.md"}} <= set(found)

    served(story)


def test_a_page_is_readable_html_and_nothing_in_it_runs() -> None:
    pages = Pages(
        {
            "README.md": "# The `start`\n<script>run(1)</script>\n\n| a | b |\n|---|---|\n|1|2|\n",
            "docs/a.md": "# A & B\n```sh\nls <x>\n```\n## Same\n## Same\n[back](../README.md)",
        }
    )

    async def story(base: str, fetch: Fetch) -> None:
        _, kind, first = await fetch(base)
        assert kind == "text/html" and "script" not in Links(first).tags
        assert "&lt;script&gt;" in first and "<title>The start</title>" in first
        assert '<div class="wide"><table>' in first
        _, _, page = await fetch(f"{base}/docs/a.md")
        links = Links(page)
        assert "ls &lt;x&gt;" in page and links.ids == ["a--b", "same", "same-1"]
        assert 'aria-current="page">A &amp; B' in page and "../README.md" in links.hrefs
        _, _, folder = await fetch(f"{base}/docs/")
        assert "/docs/a.md" in Links(folder).hrefs
        assert (await fetch(f"{base}/style.css"))[:2] == (200, "text/css")

    served(story, pages)


@pytest.mark.parametrize(
    "path",
    ["nothing.md", "../cli/docs.py", "%2e%2e/pyproject.toml", "docs", "docs/../LICENSE", "%"],
)
def test_nothing_but_pages_is_served(path: str) -> None:
    async def story(base: str, fetch: Fetch) -> None:
        host, port = base.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = (await reader.read()).decode()
        writer.close()
        assert answer.startswith("HTTP/1.1 404") and "No such page" in answer

    served(story)


def test_anchors_are_those_that_forges_make() -> None:
    assert slug("Breakages of the kill loops") == "breakages-of-the-kill-loops"
    assert slug("GET /x: what's `there`?") == "get-x-whats-there"


def test_an_installation_brings_the_documentation_along(tmp_path: Path) -> None:
    assert int(setuptools.__version__.split(".")[0]) >= 77
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "build", "raftoss-data")
    shutil.copytree(ROOT, source, ignore=ignored)
    build = f"import setuptools.build_meta as b; b.build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    shutil.rmtree(source)
    tell = "from cli.pages import load; print(*sorted(load().texts), load().title('README.md'))"
    told = subprocess.run(
        [sys.executable, "-c", tell],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert told == [*sorted(load().texts), "raftoss"]
    assert not (tmp_path / "site" / "docs").exists()


def test_one_command_serves_it_until_it_is_interrupted() -> None:
    command = [sys.executable, "-P", "-m", "cli", "docs", "--port"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*command, "0"], stdout=subprocess.PIPE, env=environ, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        with urllib.request.urlopen(url + "docs/SAFETY.md", timeout=20) as answer:
            assert b"Rules that keep the data" in answer.read()
        port = urlsplit(url).port
        taken = subprocess.run([*command, str(port)], env=environ, capture_output=True, timeout=60)
        assert taken.returncode == 1 and taken.stderr.startswith(b"ossctl: ")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
