"""Everything that a folder of photos may hold goes through `extract` once: each entry ends as the right descriptor or
as a failure with its reason, and none costs another one.
"""

from __future__ import annotations

import os
import re
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from bad_inputs import GREY, SCENE, Corpus, encoded, make_corpus
from cli_helpers import QUICK, document

from pipeline.catalog import load_catalog
from pipeline.config import load_config
from pipeline.errors import ImageError
from pipeline.imaging import read_image
from pipeline.stores import Index
from pipeline.types import FloatArray
from pipeline.workflow.progress import Silent
from pipeline.workflow.training.photo_selection import choose_photos


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The folder; below `plain/` the pixels that each good picture has to come out with, as a plain PNG."""
    made = make_corpus(tmp_path_factory.mktemp("inputs") / "photos")
    for pixels, _ in list(made.good.values()):
        twin = plain_twin(pixels)
        if twin not in made.good:
            made.add_good(twin, encoded("PNG", pixels), pixels)
    made.add_good("controls/turned.png", encoded("PNG", np.rot90(SCENE)), np.rot90(SCENE))
    made.add_good("controls/blue_for_red.png", encoded("PNG", SCENE[..., ::-1]), SCENE[..., ::-1])
    assert plain_twin(GREY) in made.good
    return made


@pytest.fixture(scope="module")
def result(corpus: Corpus) -> dict:
    return document("extract", "--images", corpus.folder, "--index", corpus.folder.parent / "index", *QUICK)


@pytest.fixture(scope="module")
def index(corpus: Corpus, result: dict) -> Index:
    return Index(corpus.folder.parent / "index")


@pytest.fixture(scope="module")
def vectors(index: Index) -> dict[str, FloatArray]:
    return {name: row for part in index.globals_parts() for name, row in zip(part.ids, part.vectors, strict=True)}


def plain_twin(pixels: np.ndarray) -> str:
    return f"plain/{zlib.crc32(pixels.tobytes()):08x}_{pixels.shape[0]}.png"


def test_there_are_kinds_enough(corpus: Corpus) -> None:
    made = [name for name in (*corpus.good, *corpus.bad) if not name.startswith(("plain/", "controls/"))]
    assert len(made) >= 150
    assert len(corpus.bad) >= 50


def test_every_entry_is_accounted_for(corpus: Corpus, result: dict, index: Index) -> None:
    assert (result["images"], result["failed"]) == (len(corpus.good), len(corpus.bad))
    assert result["ignored"] == corpus.ignored
    assert set(index.records) == set(corpus.good)
    assert index.verify() == []


def test_a_night_over_them_changes_nothing_and_fills_the_store(corpus: Corpus, result: dict, index: Index) -> None:
    arguments = ("--images", corpus.folder, "--index", index.directory, "--set", "store.kind=ann", *QUICK)
    found = document("reindex", *arguments)
    assert [found[key] for key in ("added", "changed", "moved", "removed")] == [0, 0, 0, 0]
    assert (found["equal"], found["failed"], found["ignored"]) == (len(corpus.good), len(corpus.bad), corpus.ignored)
    assert found["store"]["added"] == len(corpus.good)
    assert found["generation"] == result["generation"]


def test_every_failure_has_its_reason(corpus: Corpus, index: Index) -> None:
    rows = pq.read_table(index.directory / "failures.parquet").to_pylist()
    found = {row["path"]: row["reason"] for row in rows}
    assert len(rows) == len(found)
    assert set(found) == set(corpus.bad)
    wrong = {name: found[name] for name, reason in corpus.bad.items() if not re.search(reason, found[name])}
    assert not wrong
    assert not [reason for reason in found.values() if "\n" in reason or len(reason) > 300]


def test_every_picture_comes_out_as_what_it_shows(corpus: Corpus) -> None:
    wrong = {}
    for name, (pixels, tolerance) in corpus.good.items():
        read = read_image(corpus.folder / name).pixels
        if read.shape != pixels.shape or abs(read.astype(int) - pixels).mean() > tolerance:
            wrong[name] = read.shape
    assert not wrong


def test_every_descriptor_is_that_of_the_plain_picture(
    corpus: Corpus, index: Index, vectors: dict[str, FloatArray]
) -> None:
    wrong = {}
    for name, (pixels, tolerance) in corpus.good.items():
        similarity = float(vectors[name] @ vectors[plain_twin(pixels)]) if not name.startswith("controls") else 1.0
        if similarity < (0.995 if tolerance <= 3 else 0.965):
            wrong[name] = similarity
        record = index.records[name]
        assert (record.height, record.width) == pixels.shape[:2], name
        assert record.size == (corpus.folder / name).stat().st_size
    assert not wrong


def test_another_turn_or_colour_would_be_noticed(vectors: dict[str, FloatArray]) -> None:
    plain = vectors[plain_twin(SCENE)]
    assert plain @ vectors["controls/turned.png"] < 0.96
    assert plain @ vectors["controls/blue_for_red.png"] < 0.96
    assert plain @ vectors[plain_twin(GREY)] < 0.96


def test_queries_end_in_the_same_reasons(corpus: Corpus, index: Index) -> None:
    """Also one whose name is not UTF-8: it comes from the shell as bytes, and goes to JSON as text."""
    paths = {os.fsencode(corpus.folder / name).replace(b"\\xe9", b"\xe9"): name for name in corpus.bad}
    good = corpus.folder / "jpeg" / "plain.jpg"
    asked = [os.fsdecode(path) for path in paths]
    first, *others = document("search", good, *asked, "--index", index.directory, "--rerank", "none")["queries"]
    assert first["results"][0]["score"] == pytest.approx(1, abs=1e-3)
    errors = {answer["query"]: answer["error"] for answer in others}
    assert len(errors) == len(asked)
    for name in paths.values():
        assert re.search(corpus.bad[name], errors[f"{corpus.folder}/{name}"]), name


def test_training_leaves_out_the_same_photos(corpus: Corpus) -> None:
    catalog = load_catalog(str(corpus.folder), "folder")
    chosen = choose_photos(catalog, load_config(overrides=["train_global.validation=0"]), Silent())
    assert {path for path, _ in chosen.failed} == set(corpus.bad)
    assert all(re.search(corpus.bad[path], reason) for path, reason in chosen.failed)
    assert Counter(record.path for record in chosen.train) == Counter(name for name in corpus.good if "/" in name)


def test_what_a_manifest_lists_ends_the_same_way(corpus: Corpus) -> None:
    """A folder is met only here: `extract --images DIR` walks into it."""
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(corpus.folder / "places" / "folder.jpg")


def test_nothing_was_run(corpus: Corpus) -> None:
    assert not list(Path.cwd().glob("pwned"))
    assert not list(corpus.folder.rglob("pwned"))
