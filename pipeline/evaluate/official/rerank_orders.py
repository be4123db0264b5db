"""How CVNet, RRT and AMES turn a reranker's scores into the rankings that they report on Revisited Oxford and Paris.

`revisited` scores the result. All three read the ground truth to choose what they re-sort, so they reproduce published
figures and cannot be used for searching. Each follows the code that its authors released.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from pipeline.errors import RelookError
from pipeline.evaluate.metrics import IntArray
from pipeline.evaluate.revisited import RevisitedTruth

Values = npt.NDArray[np.floating[Any]]


def cvnet_order(
    ranking: IntArray,
    similarity: Values,
    scores: Values,
    truth: RevisitedTruth,
    setup: str,
    top: int,
    mix: float = 0.5,
) -> IntArray:
    """CVNet (Lee et al., CVPR 2022): the first `top` entries by similarity + mix * score, one list per setup.

    Quirk: images that the setup ignores are skipped when counting to `top` and keep their places, so E, M and H are
    each measured on a separate ranking, and more than `top` images are scored per query.

    Args:
        ranking: [n] database rows, best first.
        similarity: [n] global similarity beside `ranking`.
        scores: [n] the reranker's beside `ranking`, higher is better; NaN where nothing was scored.
        truth, setup: define what is ignored; E, M or H.
        top: how many are re-sorted.
        mix: weight of the reranker's score.

    Returns:
        [n] database rows; equal values keep their order.

    Raises:
        RelookError: an entry that is to be re-sorted has no score.
    """
    places = places_to_score(ranking, truth, setup, top)
    result = ranking.copy()
    result[places] = ranking[_resorted(places, similarity[places] + mix * scores[places])]
    return result


def rrt_order(ranking: IntArray, scores: Values, truth: RevisitedTruth, setup: str, top: int = 100) -> IntArray:
    """Reranking Transformers (Tan et al., ICCV 2021): the first `top` entries by the score alone.

    Quirk: images that the setup ignores are moved to the end first. The paper reads M from the ranking of M, H from
    that of H, and reports no E.

    Args, returns and raises as `cvnet_order`.
    """
    places = _ignored_last(ranking, truth, setup)
    return _with_head_resorted(ranking, places, scores[places[:top]])


def ames_order(
    ranking: IntArray,
    similarity: Values,
    logits: Values,
    truth: RevisitedTruth,
    setup: str,
    weight: float,
    temperature: float,
    top: int = 100,
) -> IntArray:
    """AMES (Suma et al., ECCV 2024): the first `top` entries by weight * similarity + (1 - weight) * p.

    p = sigmoid(temperature * logit). Quirks: `weight` (the official lambda) is the global part's, and the temperature
    multiplies; images that the setup ignores are moved to the end first. The paper reads M from the ranking of M, and H
    from that of H. Its weight and temperature: DINOv2 0.55, 0.30 (distilled 0.35, 0.10); CVNet 0.85, 0.80 (distilled
    0.65, 0.20).

    Args, returns and raises as `cvnet_order`; `logits` are the network's before the sigmoid.
    """
    places = _ignored_last(ranking, truth, setup)
    head = places[:top]
    fused = weight * similarity[head] + (1 - weight) * expit(temperature * logits[head])
    return _with_head_resorted(ranking, places, fused)


def places_to_score(ranking: IntArray, truth: RevisitedTruth, setup: str, top: int) -> IntArray:
    """Places (from 0, ascending) of the first `top` entries that the setup does not ignore.

    The orders above re-sort these, so a reranker must score them. (Where fewer than `top` entries are left, RRT and
    AMES re-sort ignored ones as well.)
    """
    return np.flatnonzero(~np.isin(ranking, truth.ignored(setup)))[:top]


def _ignored_last(ranking: IntArray, truth: RevisitedTruth, setup: str) -> IntArray:
    """All places, those of ignored rows last, otherwise in order."""
    return np.argsort(np.isin(ranking, truth.ignored(setup)), kind="stable")


def _with_head_resorted(ranking: IntArray, places: IntArray, values: Values) -> IntArray:
    """The rows at `places`, of which the first, as many as there are `values`, are re-sorted by these."""
    head = len(values)
    order: IntArray = np.concatenate([_resorted(places[:head], values), places[head:]])
    return np.asarray(ranking[order])


def _resorted(places: IntArray, values: Values) -> IntArray:
    """`places` by their `values`, descending."""
    missing = np.isnan(values)
    if missing.any():
        raise RelookError(f"the candidate at place {places[missing][0]} (from 0) has no score, but must be re-sorted")
    order: IntArray = np.argsort(-values, kind="stable")
    return np.asarray(places[order])
