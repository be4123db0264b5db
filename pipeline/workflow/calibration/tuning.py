"""Choosing calibrations, weights and margins of a chain on labelled pairs, and measuring the choice on other labels.

Of collected scores alone: no reranker runs. Links are fitted in the order of the chain. The weight is the one with the
best mAP, of equal ones the largest, which trusts the global search more. The margin is the smallest from which on mAP
stays near that of all candidates: it may cost half of what the fit gained over the chain as it was, or `TOLERANCE`
where that is more. A reranker that scores lists gives similarities like those of the global search, and its scores
depend on which candidates there are: it has a weight alone.

Figures of a fit on the labels that it was fitted on are too good:
`held_out` fits on one half of the labels and measures on the other, both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.errors import RelookError
from pipeline.evaluate import average_precision
from pipeline.rerank import RerankStep
from pipeline.rerank.calibration import fit_calibration
from pipeline.types import FloatArray
from pipeline.workflow.calibration.pairs import LabelledList

# mAP, as a fraction, that a margin may cost.
TOLERANCE = 0.0025
LEAST_LABELS = 8
LEAST_RELEVANT = 50
_WEIGHTS = np.linspace(0, 1, 21)
# Shares of the candidates that margins are tried for; less is too few to tell on other labels.
_SHARES = np.linspace(0.25, 1, 19)

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """Rankings of Q queries: average precisions [Q], whether the first candidate is relevant [Q], pairs by reranker."""

    precision: Values
    first: Values
    pairs: dict[str, int]


def check_enough(lists: Sequence[LabelledList], chain: Sequence[RerankStep], index: str) -> None:
    """Raises RelookError where labels are too few, with how many there are and how many it takes."""
    labels = len({one.label for one in lists})
    relevant = sum(int(one.relevant[: chain[0].top].sum()) for one in lists)
    if labels < LEAST_LABELS or relevant < LEAST_RELEVANT:
        raise RelookError(
            f"{index}: {labels} labels with two images and {relevant} relevant candidates; calibrate needs "
            f"{LEAST_LABELS} labels and {LEAST_RELEVANT} relevant candidates"
        )


def replay(chain: Sequence[RerankStep], lists: Sequence[LabelledList]) -> Outcome:
    """What the chain makes of the collected scores."""
    precision, first, pairs = [], [], {step.name: 0 for step in chain}
    for one in lists:
        order, scores = np.arange(len(one.scores)), one.scores
        for step in chain:
            depth = step.depth(scores)
            pairs[step.name] += depth
            order, scores = step.reorder(order, scores, _known(one.reranked[step.name][order[:depth]]))
        hits = np.flatnonzero(one.relevant[order])
        precision.append(average_precision(hits, one.positives))
        first.append(bool(len(hits)) and hits[0] == 0)
    return Outcome(np.array(precision), np.array(first, np.float64), pairs)


def fit_chain(chain: Sequence[RerankStep], lists: Sequence[LabelledList]) -> tuple[list[RerankStep], list[int]]:
    """The links with calibrations, weights and margins, and the pairs that each was fitted on."""
    fitted: list[RerankStep] = []
    counts: list[int] = []
    for step in chain:
        step = replace(step, margin=None)
        incoming, own, relevant = _heads(fitted, step, lists)
        scores_lists = getattr(step.reranker, "scores_lists", False)
        as_it_was = float(replay([*fitted, step], lists).precision.mean())
        if not scores_lists:
            step = replace(step, incoming=fit_calibration(incoming, relevant), own=fit_calibration(own, relevant))
        step = replace(step, weight=_best_weight(fitted, step, lists))
        if not scores_lists:
            step = replace(step, margin=_least_margin(fitted, step, lists, as_it_was))
        fitted.append(step)
        counts.append(len(relevant))
    return fitted, counts


def held_out(chain: Sequence[RerankStep], lists: Sequence[LabelledList], seed: int) -> Outcome:
    """The rankings of all queries, each by the fit on the half of the labels that the query is not of."""
    labels = np.array([one.label for one in lists])
    shuffled = np.random.default_rng(seed).permutation(np.unique(labels))
    half = np.isin(labels, shuffled[::2])
    found = Outcome(np.zeros(len(lists)), np.zeros(len(lists)), {step.name: 0 for step in chain})
    for inside in (half, ~half):
        fitted, _ = fit_chain(chain, [lists[row] for row in np.flatnonzero(inside).tolist()])
        rows = np.flatnonzero(~inside).tolist()
        part = replay(fitted, [lists[row] for row in rows])
        found.precision[rows], found.first[rows] = part.precision, part.first
        for name, count in part.pairs.items():
            found.pairs[name] += count
    return found


def _best_weight(before: Sequence[RerankStep], step: RerankStep, lists: Sequence[LabelledList]) -> float:
    means = [
        float(replay([*before, replace(step, weight=weight)], lists).precision.mean()) for weight in _WEIGHTS.tolist()
    ]
    return float(max(weight for weight, mean in zip(_WEIGHTS, means, strict=True) if mean >= max(means) - 1e-9))


def _least_margin(
    before: Sequence[RerankStep], step: RerankStep, lists: Sequence[LabelledList], as_it_was: float
) -> float | None:
    whole = float(replay([*before, step], lists).precision.mean())
    least = whole - max(TOLERANCE, (whole - as_it_was) / 2)
    chosen: float | None = None
    for margin in reversed(_margins(before, step, lists)):
        if float(replay([*before, replace(step, margin=margin)], lists).precision.mean()) < least:
            break
        chosen = margin
    return chosen


def _margins(before: Sequence[RerankStep], step: RerankStep, lists: Sequence[LabelledList]) -> list[float]:
    """Margins worth a try: even shares of the candidates lie within them."""
    gaps = []
    for one in lists:
        scores = _list_after(before, one)[1][: step.top]
        if len(scores) > 2:
            gaps.append(np.maximum(scores[1] - scores[2:], 0))
    if not gaps:
        return []
    return sorted({float(value) for value in np.quantile(np.concatenate(gaps), _SHARES)})


def _heads(
    before: Sequence[RerankStep], step: RerankStep, lists: Sequence[LabelledList]
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """The incoming and the own scores of all pairs that the link scores, and which are relevant."""
    parts = []
    for one in lists:
        order, scores = _list_after(before, one)
        head = order[: step.top]
        known = ~np.isnan(one.reranked[step.name][head])
        parts.append((scores[: step.top][known], one.reranked[step.name][head][known], one.relevant[head][known]))
    incoming, own, relevant = (np.concatenate(column) for column in zip(*parts, strict=True))
    return incoming, own, relevant


def _list_after(before: Sequence[RerankStep], one: LabelledList) -> tuple[npt.NDArray[np.int64], FloatArray]:
    order, scores = np.arange(len(one.scores)), one.scores
    for step in before:
        own = _known(one.reranked[step.name][order[: step.depth(scores)]])
        order, scores = step.reorder(order, scores, own)
    return order, scores


def _known(scores: FloatArray) -> FloatArray:
    """Scores [D], the lowest one where a candidate was not scored: the fitted links before it put others first."""
    missing = np.isnan(scores)
    if not missing.any():
        return scores
    return np.where(missing, np.float32(0) if missing.all() else np.nanmin(scores), scores)
