"""What mkdocs does besides rendering docs/: pages made from the code, and the files of the checkout that pages link to.

Named in mkdocs.yml. Pages link to `../pipeline/x.py` as they do on a forge; the site shows that file as a page of its
own, so that no link leaves the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from cli_reference import cli_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from notebook_page import notebook_page
from settings_reference import settings_page
from source_pages import source_page

ROOT = Path(__file__).resolve().parents[2]
SEARCH_DIALOG = 'data-md-component="search" role="dialog"'
LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)]*)?\))")

# Pages that are files of the checkout, and pages that are written from the code.
COPIED = {"changelog.md": "CHANGELOG.md", "benchmarks.md": "benchmarks/README.md"}
PAGES = {**{origin: name for name, origin in COPIED.items()}, "docs/notebook.ipynb": "notebook.md"}
WRITTEN = {
    "reference/cli.md": cli_page,
    "reference/settings.md": settings_page,
    "notebook.md": lambda: notebook_page(ROOT / "docs" / "notebook.ipynb"),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that lie in no file of docs/."""
    for name, origin in COPIED.items():
        text = _moved((ROOT / origin).read_text(encoding="utf-8"), posixpath.dirname(origin), posixpath.dirname(name))
        files.append(File.generated(config, name, content=text))
    for name, write in WRITTEN.items():
        files.append(File.generated(config, name, content=write()))
    linked = {target for file in files.documentation_pages() for target in _outside(file)} - set(PAGES)
    waiting = sorted(linked)
    while waiting:
        path = waiting.pop()
        text, more = source_page(ROOT, path)
        files.append(File.generated(config, _page_of(path), content=text))
        waiting += sorted(set(more) - linked)
        linked |= set(more)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links to files of the checkout into links to their pages."""
    here = posixpath.dirname(page.file.src_uri)

    def replaced(found: re.Match[str]) -> str:
        path = _in_checkout(here, found[2])
        if path is None:
            return found[0]
        return f"{found[1]}{posixpath.relpath(_page_of(path), here or '.')}{found[3]}"

    return LINK.sub(replaced, markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Names the theme's search dialog, which a screen reader would announce without a name."""
    return output.replace(SEARCH_DIALOG, f'{SEARCH_DIALOG} aria-label="Search"', 1)


def _outside(file: File) -> set[str]:
    """Files and folders of the checkout, outside of docs/, that a page links to."""
    here = posixpath.dirname(file.src_uri)
    paths = {_in_checkout(here, found[2]) for found in LINK.finditer(file.content_string)}
    return {path for path in paths if path is not None}


def _in_checkout(here: str, target: str) -> str | None:
    """The path, from the root of the checkout, of what a link of a page in docs/`here` means; None inside docs/."""
    path = posixpath.normpath(posixpath.join("docs", here, target))
    inside = path.startswith(("docs/", "..")) and path not in PAGES
    return None if inside or here.startswith("source") or not (ROOT / path).exists() else path


def _page_of(path: str) -> str:
    """The page of a file of the checkout, in docs/."""
    return PAGES.get(path, f"source/{path}.md")


def _moved(text: str, origin: str, place: str) -> str:
    """The links of a file in `origin` as they have to be for a page in docs/`place`."""

    def moved(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(origin, found[2]))
        return f"{found[1]}{posixpath.relpath(path, posixpath.join('docs', place))}{found[3]}"

    return LINK.sub(moved, text)
