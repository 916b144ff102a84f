"""The project's documentation as HTML pages: which there are, and how each looks.

A page keeps the path of its Markdown file, so links between files work as they are written. In a
checkout the files are read where they lie; an installation has those of docs/ beside this module,
and the README in its metadata.
"""

import html
import importlib.metadata
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it.token import Token

START = "README.md"
GROUPS = (
    ("", "Start"),
    ("docs/", "Guides"),
    ("docs/formats/", "Formats"),
    ("docs/adr/", "Decisions"),
)
_HERE = Path(__file__).parent
_NOT_IN_SLUG = re.compile(r"[^\w\- ]")

STYLE = """
:root { color-scheme: light dark; --text: #1c2128; --dim: #59636e; --back: #ffffff;
  --line: #d1d9e0; --code: #f3f5f7; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --text: #dfe5ec; --dim: #9aa5b1; --back: #14181d;
  --line: #333b44; --code: #1e242b; --link: #7db7f5; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text);
  font: 16px/1.6 system-ui, sans-serif; display: flex; }
nav { flex: 0 0 17rem; height: 100vh; position: sticky; top: 0; overflow-y: auto;
  padding: 1.5rem 1rem; border-right: 1px solid var(--line); font-size: .875rem; }
nav h2 { font-size: .75rem; text-transform: uppercase; letter-spacing: .05em; color: var(--dim);
  margin: 1.25rem 0 .25rem; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav a { display: block; padding: .15rem .5rem; border-radius: .25rem; color: var(--text); }
nav a[aria-current] { background: var(--code); font-weight: 600; }
main { flex: 1; min-width: 0; max-width: 56rem; padding: 1.5rem 2.5rem 4rem; }
a { color: var(--link); text-decoration: none; }
a:hover { text-decoration: underline; }
h1, h2, h3 { line-height: 1.25; margin: 2rem 0 .75rem; }
h1 { margin-top: 0; }
h2 { border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
code { background: var(--code); padding: .1em .3em; border-radius: .25rem;
  font: .875em/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { background: var(--code); padding: 1rem; border-radius: .375rem; overflow-x: auto; }
pre code { padding: 0; overflow-wrap: normal; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9375rem; }
th, td { border: 1px solid var(--line); padding: .375rem .625rem; text-align: left;
  vertical-align: top; }
th { background: var(--code); }
blockquote { margin: 1rem 0; padding-left: 1rem; border-left: 3px solid var(--line);
  color: var(--dim); }
@media (max-width: 48rem) { body { display: block; } main { padding: 1rem; }
  nav { height: auto; position: static; border-right: 0; border-bottom: 1px solid var(--line); } }
"""


@dataclass(frozen=True, slots=True)
class Pages:
    """Markdown by the path of its file; folders end with a slash and list what is below."""

    texts: Mapping[str, str]

    @property
    def paths(self) -> list[str]:
        """Every path that `render` knows."""
        return ["", *self.texts, *self._folders()]

    def render(self, path: str) -> str | None:
        """The page of a path without its leading slash, whole HTML; None: there is none."""
        path = path or START
        if path in self.texts:
            return self._page(path, _body(self.texts[path]))
        if path in self._folders():
            return self._page(path, self._listing(path))
        return None

    def missing(self, path: str) -> str:
        """The page that says that there is none."""
        said = f"<h1>No such page</h1><p>There is no <code>{html.escape(path)}</code> here.</p>"
        return self._page("", said)

    def title(self, path: str) -> str:
        """A page's first heading, or its name."""
        lines = self.texts.get(path, "").splitlines()
        heading = next((line for line in lines if line.startswith("# ")), "")
        return heading.removeprefix("# ").replace("`", "") or path

    def _folders(self) -> list[str]:
        return sorted({path.rpartition("/")[0] + "/" for path in self.texts if "/" in path})

    def _below(self, folder: str) -> list[str]:
        """The pages of a folder, not of those below it."""
        return sorted(path for path in self.texts if path.rpartition("/")[0] == folder.rstrip("/"))

    def _listing(self, folder: str) -> str:
        return f"<h1>{html.escape(folder)}</h1>{self._links(self._below(folder), current='')}"

    def _links(self, paths: Iterable[str], *, current: str) -> str:
        items = []
        for path in paths:
            mark = ' aria-current="page"' if path == current else ""
            title = html.escape(self.title(path))
            items.append(f'<li><a href="/{html.escape(path)}"{mark}>{title}</a></li>')
        return f"<ul>{''.join(items)}</ul>"

    def _page(self, path: str, body: str) -> str:
        groups = [
            f"<h2>{name}</h2>{self._links(self._below(folder), current=path)}"
            for folder, name in GROUPS
            if self._below(folder)
        ]
        title = html.escape(self.title(path) or "raftoss")
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{title}</title>"
            '<link rel="stylesheet" href="/style.css"></head>'
            f"<body><nav>{''.join(groups)}</nav><main>{body}</main></body></html>\n"
        )


def load() -> Pages:
    """The documentation of this program. Raises OSError where its files cannot be read."""
    installed = _HERE / "documentation"
    folder = installed if installed.is_dir() else _HERE.parent / "docs"
    found = {
        f"docs/{path.relative_to(folder).as_posix()}": path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*.md"))
    }
    return Pages({START: _readme(folder), **found})


def _readme(folder: Path) -> str:
    beside = folder.parent / START
    if folder.name == "docs" and beside.is_file():
        return beside.read_text(encoding="utf-8")
    # Behind its headers stands the README, as pyproject.toml names it.
    metadata = importlib.metadata.distribution("raftoss").read_text("METADATA") or ""
    return metadata.partition("\n\n")[2]


def slug(heading: str) -> str:
    """The anchor of a heading, as forges make it: `## Engines` is `#engines`."""
    return _NOT_IN_SLUG.sub("", heading.strip().lower()).replace(" ", "-")


def _body(text: str) -> str:
    from markdown_it import MarkdownIt

    # No HTML of the files' own: everything in them is shown, nothing is run.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    _give_anchors(tokens)
    rendered = str(markdown.renderer.render(tokens, markdown.options, {}))
    wide = rendered.replace("<table>", '<div class="wide"><table>')
    return wide.replace("</table>", "</table></div>")


def _give_anchors(tokens: "list[Token]") -> None:
    seen: dict[str, int] = {}
    for opening, inline in pairwise(tokens):
        if opening.type != "heading_open":
            continue
        text = "".join(child.content for child in inline.children or ())
        anchor = slug(text)
        count = seen[anchor] = seen.get(anchor, -1) + 1
        opening.attrSet("id", f"{anchor}-{count}" if count else anchor)
