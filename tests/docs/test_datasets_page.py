"""The commands of docs/datasets.md run as they stand there, on published files in miniature."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import miniatures
from archives import tar_of
from cli_helpers import ROOT
from doc_commands import QUICKER, commands, succeeds

from pipeline.catalog.registry import DATASETS
from pipeline.fetch import SOURCES

PAGE = "docs/datasets.md"


def test_commands_run(tmp_path: Path, shared: Path) -> None:
    made, downloads = tmp_path / "made", tmp_path / "downloads"
    miniatures.revisited(made, "roxford5k", shared)
    downloads.mkdir()
    photos = {photo.name: photo.read_bytes() for photo in (made / "jpg").iterdir()}
    (downloads / "oxbuild_images-v1.tgz").write_bytes(tar_of(photos, "gz"))
    (made / "gnd_roxford5k.pkl").rename(downloads / "gnd_roxford5k.pkl")
    lines = commands(PAGE)
    assert len(lines) >= 2
    for line in lines:
        words = shlex.split(line.removeprefix("relook"))
        succeeds(tmp_path, line, str(ROOT / "cli.py"), *words, *QUICKER.get(words[0], []))


def test_every_data_set_has_its_place_on_the_page() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    headings = {name for line in re.findall(r"^### (.*)$", text, re.M) for name in line.split(", ")}
    assert headings == set(DATASETS)
    fetched = {name for line in re.findall(r"^\| (`.*?) \|", text, re.M) for name in re.findall(r"`(.*?)`", line)}
    assert fetched == set(SOURCES)
