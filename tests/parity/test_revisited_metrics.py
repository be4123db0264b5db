"""Revisited Oxford and Paris: the official figures for given rankings on the real ground truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import parity_ledger
import pytest

from pipeline.evaluate import PROTOCOLS, RevisitedTruth, by_revisited, mark_relevance
from pipeline.types import Ranking


@pytest.mark.parametrize("folder", parity_ledger.folders("revisitop*"))
def test_figures(folder: str, official_folder: Callable[[str], Any]) -> None:
    official = official_folder(folder)
    kappas = official.config["kappas"]
    for dataset in datasets(official):
        rankings, truths = task(official, dataset)
        for setup in "EMH":
            scores = by_revisited(rankings, truths, setup, kappas)
            start = f"{dataset}_{setup}"
            means, precisions = scores.means(), [f"mP@{k}" for k in kappas]
            official.agrees(f"{start}_map_f64", means["mAP"], atol=1e-12)
            official.agrees(f"{start}_aps_f64", scores.per_query["mAP"], atol=1e-12)
            official.agrees(f"{start}_mp_{'_'.join(map(str, kappas))}_f64", [means[k] for k in precisions], atol=1e-12)
            per_query = np.stack([scores.per_query[k] for k in precisions], axis=1)
            official.agrees(f"{start}_prs_f64", per_query, atol=1e-12)
            assert np.isnan(scores.per_query["mAP"]).sum() == sum(len(truth.positives(setup)) == 0 for truth in truths)


@pytest.mark.parametrize("folder", parity_ledger.folders("revisitop*"))
def test_only_the_first_ranks(folder: str, official_folder: Callable[[str], Any]) -> None:
    """Positives beyond the cut count as never found."""
    official = official_folder(folder)
    for dataset in datasets(official):
        rankings, truths = task(official, dataset)
        for setup in "EMH":
            start = f"{dataset}_{setup}_map_top"
            for name in official.matching(start):
                cut = int(name.removeprefix(start).removesuffix("only_f64"))
                scores = by_revisited([ranking[:cut] for ranking in rankings], truths, setup)
                official.agrees(name, scores.means()["mAP"], atol=1e-12)


@pytest.mark.parametrize("folder", parity_ledger.folders("revisitop*"))
def test_the_protocol_that_evaluate_picks(folder: str, official_folder: Callable[[str], Any]) -> None:
    """From ids instead of rows, all setups at once, with the figures of the paper's table."""
    official = official_folder(folder)
    for dataset in datasets(official):
        rankings, truths = task(official, dataset)
        judged = [
            mark_relevance(
                Ranking(str(number), list(map(str, ranking)), np.zeros(len(ranking), np.float32)),
                {grade: {str(row) for row in getattr(truth, grade)} for grade in ("easy", "hard", "junk")},
            )
            for number, (ranking, truth) in enumerate(zip(rankings, truths, strict=True))
        ]
        scores = PROTOCOLS["revisited"].score(judged)
        for setup in "EMH":
            official.agrees(f"{dataset}_{setup}_map_f64", scores.means()[f"mAP_{setup}"], atol=1e-12)
            official.agrees(f"{dataset}_{setup}_aps_f64", scores.per_query[f"mAP_{setup}"], atol=1e-12)


def datasets(official: Any) -> list[str]:
    return sorted(path.stem.removeprefix("gnd_") for path in official.folder.glob("gnd_*.json"))


def task(official: Any, dataset: str) -> tuple[np.ndarray, list[RevisitedTruth]]:
    """Rankings, one row per query, and what is known of each."""
    truth = json.loads((official.folder / f"gnd_{dataset}.json").read_text())
    (name,) = (name for name in official.inputs if name.startswith(f"{dataset}_ranks"))
    truths = [RevisitedTruth(*(np.array(query[grade]) for grade in ("easy", "hard", "junk"))) for query in truth["gnd"]]
    return official.inputs[name].T, truths
