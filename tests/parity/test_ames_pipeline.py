"""AMES's evaluation whole: files of descriptors, the network, and the rankings and figures of Revisited Oxford."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from parity_ledger import folders

from pipeline.evaluate import RevisitedTruth, ames_order, by_revisited, places_to_score
from pipeline.rerank import load_reranker
from pipeline.rerank.ames.reranker import AMESReranker
from pipeline.stores.exchange import Options, open_external
from pipeline.types import Candidates, Description, LocalDescriptors

# The scores are compared as logits, which probabilities near 0 or 1 lose; so they are requested at a mild temperature.
TEMPERATURE = 0.25
NAMES = {"medium": "M", "hard": "H"}


class Files:
    """The descriptor files of a folder, as the authors' code reads them, and a `DescriptorSource` of the gallery's."""

    def __init__(self, official: Any, folder: Path) -> None:
        self.queries = _read(folder / "dinov2_query_local.hdf5", official.inputs["query_rows"])
        self._gallery = _read(folder / "dinov2_gallery_local.hdf5", official.inputs["gallery_rows"])

    def locals(self, ids: Sequence[str]) -> list[LocalDescriptors]:
        return [self._gallery[int(name)] for name in ids]


@pytest.fixture(scope="module", params=folders("ames_pipeline*"))
def official(request: pytest.FixtureRequest, official_folder: Callable[[str], Any]) -> Any:
    return official_folder(request.param)


@pytest.fixture(scope="module")
def files(official: Any, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(official, tmp_path_factory.mktemp("ames"))


@pytest.fixture(scope="module")
def reranker(official: Any, official_file: Callable[..., Path]) -> AMESReranker:
    config = official.config
    counts = {"query_locals": config["query_sequence_len"], "gallery_locals": config["sequence_len"]}
    file = official_file(official, "state")
    made = load_reranker("ames", file, heads=config["nhead"], temperature=TEMPERATURE, **counts)
    assert isinstance(made, AMESReranker)
    return made


def test_from_files_to_figures(official: Any, files: Files, reranker: AMESReranker) -> None:
    similarity, rankings = official.inputs["cache_nn"]
    rankings = rankings.astype(np.intp)
    truths = [
        RevisitedTruth(*(official.inputs[f"gnd{query}_{grade}"] for grade in ("easy", "hard", "junk")))
        for query in range(len(rankings))
    ]
    top = max(official.config["num_rerank"])
    logits = np.full(rankings.shape, np.nan)
    for name, setup in NAMES.items():
        # Where fewer than `top` images are left that the setup does not ignore, the first ignored ones are scored too.
        places = [
            np.argsort(np.isin(ranking, truth.ignored(setup)), kind="stable")[:top]
            for ranking, truth in zip(rankings, truths, strict=True)
        ]
        for row, (ranking, truth) in enumerate(zip(rankings, truths, strict=True)):
            kept = places_to_score(ranking, truth, setup, top)
            np.testing.assert_array_equal(places[row][: len(kept)], kept)
        found = scored(reranker, files, [ranking[at] for ranking, at in zip(rankings, places, strict=True)])
        official.agrees(f"logits_{name}", found, atol=1e-5)
        for row, at in enumerate(places):
            logits[row, at] = found[row]
    for weight, temperature in official.config["lamb_temp"]:
        start = f"lamb{weight}_temp{temperature}"
        reported = []
        for name, setup in NAMES.items():
            ranked = np.array(
                [
                    ames_order(*query, setup, weight, temperature, top)
                    for query in zip(rankings, similarity, logits, truths, strict=True)
                ]
            )
            official.equals(f"{start}_{name}_ranks", ranked.T)
            means = [100 * by_revisited(ranked, truths, level).means()["mAP"] for level in "EMH"]
            official.agrees(f"{start}_{name}_map", np.round(means, 3), atol=1e-9)
            reported.append(round(means["EMH".index(setup)], 3))
        official.agrees(f"{start}_reported", reported, atol=1e-9)


def scored(reranker: AMESReranker, files: Files, rows: Sequence[np.ndarray]) -> np.ndarray:
    """Logits [Q, n] of gallery rows, by what a search calls."""
    ids = [[str(number) for number in row] for row in rows]
    queries = [Description(np.zeros(1, np.float32), local) for local in files.queries]
    candidates = Candidates([str(row) for row in range(len(ids))], ids, [np.ones(len(row), np.float32) for row in ids])
    probabilities = np.array(reranker.score(queries, candidates, files), dtype=np.float64)
    return np.log(probabilities / (1 - probabilities)) / TEMPERATURE


def _read(file: Path, rows: np.ndarray) -> list[LocalDescriptors]:
    with h5py.File(file, "w") as opened:
        opened["features"] = rows
    scales = tuple(1.0 + number for number in range(int(rows[..., 2].max()) + 1))
    source = open_external(file, "auto", Options(scales=scales))
    return [image.locals for image in source.images if image.locals is not None]
