"""The examples of docs/extend.md work together, as they stand there, and each is about thirty lines."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from doc_commands import ROOT, succeeds

SAMPLES = ROOT / "data" / "samples"
PAGE = ROOT / "docs" / "extend.md"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def test_the_examples_work_together(tmp_path: Path) -> None:
    (tmp_path / "photos4").mkdir()
    files = sorted((SAMPLES / "images").rglob("*.jpg"))[:24]
    for number, file in enumerate(files):
        shutil.copy(file, tmp_path / "photos4" / f"{number:04d}.jpg")
    succeeds(tmp_path, "docs/extend.md", "-c", "\n".join(blocks()))


def test_each_is_short() -> None:
    *examples, use = blocks()
    assert len(examples) == 4
    for text in (*examples, use):
        assert sum(bool(line.strip()) for line in text.splitlines()) <= 40


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", PAGE.read_text(encoding="utf-8")))
def test_its_links_lead_somewhere(link: str) -> None:
    assert (PAGE.parent / link).exists()
