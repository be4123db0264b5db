"""docs/reference/json.md names the keys that the documents have today, and no others."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from typing import Any

import pytest
from doc_commands import ROOT

from pipeline.cli.run import app

PAGE = (ROOT / "docs" / "reference" / "json.md").read_text(encoding="utf-8")


def documented(name: str) -> set[str]:
    """The keys in the table below the mark `keys: NAME`."""
    found = re.search(rf"<!-- keys: {re.escape(name)} -->\n((?:\|.*\n)+)", PAGE)
    assert found, name
    cells = [row.split("|")[1] for row in found[1].splitlines()[2:]]
    return {key for cell in cells for key in re.findall(r"`(.+?)`", cell)}


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the commands print, on eight photos of two labels."""
    home = tmp_path_factory.mktemp("json")
    (home / "photos").mkdir()
    rows = ["path,label"]
    for label in ("vase_a", "palace_a"):
        for file in sorted((ROOT / "data" / "samples" / "images" / label).glob("*.jpg"))[:4]:
            shutil.copy(file, home / "photos")
            rows.append(f"{file.name},{label}")
    (home / "photos" / "labels.csv").write_text("\n".join(rows) + "\n")
    size = ["--set", "describe.image.size=96"]
    index, photos = ["--index", str(home / "index")], home / "photos"
    return {
        "extract": printed("extract", str(photos / "labels.csv"), *index, *size),
        "extract --shard": printed(
            "extract", str(photos / "labels.csv"), "--index", str(home / "two"), "--shard", "1/1", *size
        ),
        "search": printed("search", str(photos / "vase_a_00.jpg"), *index),
        "evaluate": printed("evaluate", *index),
        "verify": printed("verify", *index),
        "info": printed("info", str(home / "index")),
    }


def printed(*words: str) -> dict[str, Any]:
    with io.StringIO() as text, contextlib.redirect_stdout(text):
        assert not app([*words, "--json", "--quiet"], prog_name="relook", standalone_mode=False), words
        found: dict[str, Any] = json.loads(text.getvalue())
        return found


@pytest.mark.parametrize("verb", ["extract", "extract --shard", "search", "evaluate", "verify", "info"])
def test_keys_of_documents(documents: dict[str, Any], verb: str) -> None:
    assert set(documents[verb]) == documented(verb)


def test_keys_within_a_search(documents: dict[str, Any]) -> None:
    entry = documents["search"]["queries"][0]
    assert set(entry) == documented("search.queries")
    assert set(entry["results"][0]) == documented("search.queries.results")
