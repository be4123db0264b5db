"""Google Landmarks v2: the official retrieval and recognition figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import parity_ledger
import pytest

from pipeline.errors import RelookError
from pipeline.evaluate import PROTOCOLS, Guess, landmark_retrieval, mark_relevance, recognition_gap, recognition_top1
from pipeline.types import Ranking


@pytest.mark.parametrize("folder", parity_ledger.folders("gldv2_metrics*"))
def test_retrieval(folder: str, official_folder: Callable[[str], Any]) -> None:
    official = official_folder(folder)
    data = given(official)
    predictions, solution = data["retrieval_predictions"], data["retrieval_solution"]
    for name in official.matching("map"):
        depth = int(name.removeprefix("map").removesuffix("_f64"))
        official.agrees(name, landmark_retrieval(predictions, solution, depth).map, atol=1e-12)
    depth = len(official.outputs["mean_precisions_f64"])
    result = landmark_retrieval(predictions, solution, depth)
    official.agrees("mean_precisions_f64", result.mean_precisions, atol=1e-12)
    official.agrees("mean_median_position_f64", [result.mean_position, result.median_position], atol=1e-12)


@pytest.mark.parametrize("folder", parity_ledger.folders("gldv2_metrics*"))
def test_recognition(folder: str, official_folder: Callable[[str], Any]) -> None:
    official = official_folder(folder)
    data = given(official)
    solution = data["recognition_solution"]
    guesses = {name: Guess(guess["class"], guess["score"]) for name, guess in data["recognition_predictions"].items()}
    official.agrees("recognition_gap_f64", recognition_gap(guesses, solution), atol=1e-12)
    without = recognition_gap(guesses, solution, ignore_others=True)
    official.agrees("recognition_gap_ignore_nongt_f64", without, atol=1e-12)
    official.agrees("recognition_top1_f64", recognition_top1(guesses, solution), atol=1e-12)


@pytest.mark.parametrize("folder", parity_ledger.folders("gldv2_metrics*"))
def test_an_unknown_query_is_an_error(folder: str, official_folder: Callable[[str], Any]) -> None:
    data = given(official_folder(folder))
    with pytest.raises(RelookError, match="'unheard of' is not in the solution"):
        landmark_retrieval({**data["retrieval_predictions"], "unheard of": []}, data["retrieval_solution"])


@pytest.mark.parametrize("folder", parity_ledger.folders("gldv2_metrics*"))
def test_the_protocols_that_evaluate_picks(folder: str, official_folder: Callable[[str], Any]) -> None:
    official = official_folder(folder)
    data = given(official)
    predictions = data["retrieval_predictions"]
    judged = [
        mark_relevance(ranking(query, without_repeats(predictions.get(query, ()))), {"positive": set(relevant)})
        for query, relevant in data["retrieval_solution"].items()
    ]
    official.agrees("map100_f64", PROTOCOLS["gldv2"].score(judged).means()["mAP@100"], atol=1e-12)
    guesses = data["recognition_predictions"]
    judged = [
        mark_relevance(
            ranking(image, ["nearest"] if image in guesses else [], guesses.get(image, {}).get("score", 0)),
            {},
            {"nearest": str(guesses.get(image, {}).get("class", ""))},
            map(str, landmarks),
        )
        for image, landmarks in data["recognition_solution"].items()
    ]
    scores = PROTOCOLS["gldv2_recognition"].score(judged).means()
    official.agrees("recognition_gap_f64", scores["uAP"], atol=1e-12)
    official.agrees("recognition_top1_f64", scores["top1"], atol=1e-12)


def without_repeats(ids: Sequence[str]) -> list[str]:
    """An image stands in a ranking of ours once; a repeated one, which counts as wrong, makes place for another."""
    return [name if name not in ids[:place] else f"repeat {place}" for place, name in enumerate(ids)]


def ranking(query: str, ids: list[str], score: float = 0.0) -> Ranking:
    return Ranking(query, ids, np.full(len(ids), score, dtype=np.float32))


def given(official: Any) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((official.folder / "inputs.json").read_text())
    return data
