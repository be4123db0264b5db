"""What is kept of the rankings of an evaluation to draw it: precision over recall, scores, how positives moved.

Filled by `measurement`, block by block, in memory that grows by some hundred numbers a query.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.evaluate import RECALL_LEVELS, RankedRelevance, interpolated_precision
from pipeline.types import FloatArray, Ranking

# Images that the ground truth says to ignore.
_IGNORED = "junk"
# Scores of a query that are kept of positives and of negatives, and places of positives.
_SCORES = 100
_MOVES = 20
# Places of positives that are drawn.
_DRAWN = 2000
_BINS = 40


class RankingCurves:
    """Curves of one ranking over the queries with a positive; images marked as ignored count nowhere."""

    def __init__(self) -> None:
        self._precision: list[npt.NDArray[np.float64]] = []
        self._scores: dict[str, list[FloatArray]] = {"positive": [], "negative": []}
        self._moves: list[npt.NDArray[np.int64]] = []

    def add(self, ranking: Ranking, found: RankedRelevance) -> None:
        """The ranking of one query, and the places of its relevant images."""
        groups = [name for name in found.places if name != _IGNORED]
        positives = sum(found.sizes[name] for name in groups)
        if not positives:
            return
        places = np.sort(np.concatenate([found.places[name] for name in groups]))
        ignored = found.places.get(_IGNORED, np.empty(0, np.intp))
        self._precision.append(interpolated_precision(places - np.searchsorted(ignored, places), positives))
        negative = np.ones(len(ranking.ids), np.bool_)
        negative[places] = negative[ignored] = False
        scores = np.asarray(ranking.scores)
        self._scores["positive"].append(_spread(scores[places], _SCORES))
        self._scores["negative"].append(_spread(scores[negative], _SCORES))
        if "global_rank" in ranking.explanation:
            before = np.asarray(ranking.explanation["global_rank"])[places]
            self._moves.append(_spread(np.stack([before, places + 1], axis=1).astype(np.int64), _MOVES))

    def append(self, other: RankingCurves) -> None:
        """The queries that follow."""
        self._precision += other._precision
        self._moves += other._moves
        for name, values in other._scores.items():
            self._scores[name] += values

    def to_document(self) -> dict[str, Any]:
        """What was kept of every query, as plain values."""
        return {
            "precision": [values.tolist() for values in self._precision],
            "scores": {
                name: [[values.dtype.str, values.tolist()] for values in kept] for name, kept in self._scores.items()
            },
            "moves": [pairs.tolist() for pairs in self._moves],
        }

    @classmethod
    def from_document(cls, values: Mapping[str, Any]) -> RankingCurves:
        """The inverse of `to_document`. Raises KeyError, TypeError or ValueError for anything else."""
        made = cls()
        made._precision = [np.array(one, np.float64) for one in values["precision"]]
        made._scores = {
            name: [np.array(one, np.dtype(kind)) for kind, one in values["scores"][name]] for name in made._scores
        }
        made._moves = [np.array(pairs, np.int64).reshape(-1, 2) for pairs in values["moves"]]
        return made

    def to_json(self) -> dict[str, Any] | None:
        """Plain values; None where no query has a positive.

        "recall" and "precision" are means over queries; "scores" has "edges" of bins and for "positive" and "negative"
        the share of the scores in each; "moves" has pairs of a positive's rank in the global search and in this one.
        """
        queries = len(self._precision)
        if not queries:
            return None
        # One after the other, so that the sum does not depend on how queries were divided.
        precision = reduce(np.add, self._precision, np.zeros(len(RECALL_LEVELS)))
        return {
            "queries": queries,
            "recall": RECALL_LEVELS.round(2).tolist(),
            "precision": (precision / queries).round(4).tolist(),
            "scores": _histograms({name: np.concatenate(values) for name, values in self._scores.items()}),
            "moves": _spread(np.concatenate(self._moves), _DRAWN).tolist() if self._moves else [],
        }


def _histograms(scores: Mapping[str, FloatArray]) -> dict[str, list[float]]:
    everything = np.concatenate([values[np.isfinite(values)] for values in scores.values()])
    edges = np.histogram_bin_edges(everything, _BINS)
    shares = {name: np.histogram(values, edges)[0] / max(1, len(values)) for name, values in scores.items()}
    return {"edges": edges.round(5).tolist()} | {name: values.round(5).tolist() for name, values in shares.items()}


def _spread(rows: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """At most `count` rows, evenly spread over the ranking."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).round().astype(np.intp)]
