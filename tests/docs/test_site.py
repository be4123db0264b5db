"""The documentation site builds without a warning, loads nothing from elsewhere, and its pages can be scanned."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browser import browser, serious
from doc_commands import ROOT

__all__ = ["browser"]

PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
MOST_WORDS = 90


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip()
    return folder


class Loads(HTMLParser):
    """What a page loads, and the targets of its links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "a":
            self.links.append(values.get("href", ""))
        elif not (tag == "link" and values.get("rel") in ("canonical", "prev", "next")):
            self.loaded += [values[name] for name in ("src", "href", "data", "poster") if name in values]


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        for target in Loads(page.read_text(encoding="utf-8")).loaded:
            assert not re.match(r"(https?:)?//", target), f"{page}: {target}"
            assert not target.startswith("/") or page.name == "404.html", f"{page}: {target} needs the site at the root"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?https?:", sheet.read_text(encoding="utf-8")), sheet


def test_links_lead_to_pages(site: Path) -> None:
    for page in site.rglob("*.html"):
        if page.name == "404.html":
            continue
        for link in Loads(page.read_text(encoding="utf-8")).links:
            target = link.partition("#")[0]
            if target and ":" not in target:
                assert (page.parent / target).exists(), f"{page}: {link}"


@pytest.mark.parametrize(
    ("page", "texts"),
    [
        ("reference/cli.html", ("relook train-rerank", "--max-failures", "Search with an image of the index")),
        ("reference/settings.html", ("rerank.superglobal.power", "store.ann.recall")),
        ("reference/python.html", ("skip_itself", "to_pandas", "LockedError")),
        ("changelog.html", ("Unreleased",)),
        ("notebook.html", ("points agree with", "data:image/jpeg")),
    ],
)
def test_generated_pages(site: Path, page: str, texts: tuple[str, ...]) -> None:
    found = (site / page).read_text(encoding="utf-8")
    for text in texts:
        assert text in found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", ["index", "notebook", "reference/python"])
def test_pages_are_accessible(site: Path, browser: Any, page: str, scheme: str) -> None:
    opened = browser.new_page(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    opened.goto((site / f"{page}.html").as_uri())
    assert serious(opened) == []
    opened.close()


def paragraphs(text: str) -> list[str]:
    """Paragraphs and items of lists; no code, table or heading."""
    found: list[list[str]] = [[]]
    for line in re.sub(r"^```.*?^```", "", text, flags=re.M | re.S).splitlines():
        if re.match(r"\s*$|\||#|!!!|<!--", line):
            found.append([])
        elif re.match(r"\s*([-*]|\d+\.) ", line):
            found.append([line])
        elif not line.startswith("    ") or found[-1]:
            found[-1].append(line)
    return [" ".join(lines) for lines in found if lines]


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", *PAGES])
def test_paragraphs_are_short(page: str) -> None:
    for paragraph in paragraphs((ROOT / page).read_text(encoding="utf-8")):
        assert len(paragraph.split()) <= MOST_WORDS, paragraph


def test_every_page_says_first_what_it_is_for() -> None:
    for page in PAGES:
        first = re.match(r"# .+\n\n(?!\||```|!\[| {4})(\S.+)", (ROOT / page).read_text(encoding="utf-8"))
        assert first, page
