"""How CVNet, Reranking Transformers and AMES order Revisited Oxford and Paris: official rankings and figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import parity_ledger
import pytest

from pipeline.evaluate import RevisitedTruth, ames_order, by_revisited, cvnet_order, rrt_order

NAMES = {"medium": "M", "hard": "H"}


@pytest.mark.parametrize("folder", parity_ledger.folders("cvnet_rerank_order*"))
def test_cvnet(folder: str, official_folder: Callable[[str], Any]) -> None:
    official = official_folder(folder)
    rankings = official.inputs["ranks_global"].T
    similarity = beside(official.inputs["sim_global"].T, rankings)
    scores = beside(official.inputs["score_local"].T, rankings)
    truths = truths_of(official, len(rankings))
    for top in official.config["topk"]:
        for setup in "EMH":
            found = np.array(
                [
                    cvnet_order(*query, setup, top, official.config["mix_ratio"])
                    for query in zip(rankings, similarity, scores, truths, strict=True)
                ]
            )
            official.equals(f"ranks_{setup}_top{top}", found.T)
            mean_ap, *precisions = by_revisited(found, truths, setup).means().values()
            official.agrees(f"map_{setup}_top{top}_f64", mean_ap, atol=1e-12)
            official.agrees(f"mp_{setup}_top{top}_f64", precisions, atol=1e-12)


@pytest.mark.parametrize("folder", parity_ledger.folders("rrt_gld*"))
def test_rrt(folder: str, official_folder: Callable[[str], Any]) -> None:
    """M is read from the ranking of M, H from that of H; percent, to two decimals."""
    official = official_folder(folder)
    rankings = official.inputs["evalorder_global_order"]
    scores = beside(official.inputs["evalorder_rrt_score"], rankings)
    truths = truths_of(official, len(rankings), "evalorder_")
    means = []
    for name, setup in NAMES.items():
        found = np.array([rrt_order(*query, setup) for query in zip(rankings, scores, truths, strict=True)])
        official.equals(f"evalorder_{name}_ranks", found.T)
        mean_ap, *precisions = by_revisited(found, truths, setup).summary().values()
        official.agrees(f"evalorder_mp_{setup}_f64", precisions, atol=1e-12)
        means.append(mean_ap)
    official.agrees("evalorder_map_M_H_percent_2dp_f64", means, atol=1e-12)


@pytest.mark.parametrize("folder", parity_ledger.folders("ames_eval*"))
def test_ames(folder: str, official_folder: Callable[[str], Any]) -> None:
    """E, M and H of each ranking, in percent, to three decimals."""
    official = official_folder(folder)
    similarity, rankings = official.inputs["cache_nn"]
    rankings = rankings.astype(np.intp)
    logits = beside(official.inputs["raw_logit_table"], rankings)
    truths = truths_of(official, len(rankings))
    for weight, temperature in official.config["lamb_temp"]:
        for name, setup in NAMES.items():
            found = np.array(
                [
                    ames_order(*query, setup, weight, temperature, official.config["rerank_top"])
                    for query in zip(rankings, similarity, logits, truths, strict=True)
                ]
            )
            start = f"lamb{weight}_temp{temperature}_{name}"
            official.equals(f"{start}_ranks", found.T)
            means = [100 * by_revisited(found, truths, setup).means()["mAP"] for setup in "EMH"]
            official.agrees(f"{start}_map_E_M_H_f64", np.round(means, 3), atol=1e-12)


def beside(table: np.ndarray, rankings: np.ndarray) -> np.ndarray:
    """What a table [Q, N] by database row says, in the order of the rankings [Q, n]."""
    return np.take_along_axis(table, rankings.astype(np.intp), axis=1)


def truths_of(official: Any, queries: int, prefix: str = "") -> list[RevisitedTruth]:
    grades = ("easy", "hard", "junk")
    return [
        RevisitedTruth(*(official.inputs[f"{prefix}gnd{query}_{grade}"] for grade in grades))
        for query in range(queries)
    ]
