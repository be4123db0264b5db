"""Google Landmarks v2: retrieval mAP@100, precisions and first hits; recognition GAP (also called uAP) and top-1.

One of the protocols of this room. Follows Weyand et al., "Google Landmarks Dataset v2", CVPR 2020, and the metrics that
its authors released. AP is the rectangle rule.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import RelookError
from pipeline.evaluate.metrics import FloatValues, IntArray, Scores, average_precision, average_precision_at
from pipeline.evaluate.ranked_relevance import Guess, RankedRelevance

DEPTH = 100
PRECISIONS = (1, 10, 100)


@dataclass(frozen=True)
class LandmarkRetrieval:
    """Retrieval figures of Q queries, in the order of the solution, from the first `depth` results of each.

    Attributes:
        average_precisions: [Q] fractions; 0 for a query without a prediction.
        precisions: [Q, depth] fractions, the precision at 1, 2, ..., depth; missing results of a short list count as
            wrong.
        first_correct: [Q] rank from 1 of the first relevant result; depth + 1 where there is none.
    """

    average_precisions: FloatValues
    precisions: FloatValues
    first_correct: npt.NDArray[np.int64]

    @property
    def map(self) -> float:
        """mAP@depth, a fraction."""
        return float(self.average_precisions.mean())

    @property
    def mean_precisions(self) -> FloatValues:
        """[depth] fractions."""
        return np.asarray(self.precisions.mean(axis=0))

    @property
    def mean_position(self) -> float:
        """Mean rank from 1 of the first relevant result."""
        return float(self.first_correct.mean())

    @property
    def median_position(self) -> float:
        """Median rank from 1 of the first relevant result."""
        return float(np.median(self.first_correct))


def score_landmark_retrieval(ranked: Sequence[RankedRelevance]) -> Scores:
    """ "mAP@100" and the precision at 1, 10 and 100 of each query, as `landmark_retrieval` scores them.

    NaN for a query without a relevant image. Raises RelookError when no query has one.
    """
    rows = [_score_places(item.places["positive"], item.sizes["positive"]) for item in ranked]
    if not any(item.sizes["positive"] for item in ranked):
        raise RelookError("no query has a relevant image in the gallery")
    names = [f"mAP@{DEPTH}", *(f"P@{k}" for k in PRECISIONS)]
    return Scores(dict(zip(names, np.array(rows).T, strict=True)))


def score_landmark_recognition(ranked: Sequence[RankedRelevance]) -> Scores:
    """Recognition by the nearest labelled image: "uAP", whose mean is `recognition_gap`, and "top1".

    A query's uAP is its term of the sum: the precision at its own guess if that is correct, else 0. For an image of
    something else both are NaN; its guess lowers the precision of those below it.

    Raises:
        RelookError: no image has a landmark.
    """
    guesses = {item.query_id: item.guess for item in ranked if item.guess is not None}
    solution = {item.query_id: item.labels for item in ranked}
    _with_landmark(guesses, solution)
    terms = _gap_terms(guesses, solution)
    columns = {
        "uAP": [terms.get(name, 0.0) if labels else np.nan for name, labels in solution.items()],
        "top1": [float(name in terms) if labels else np.nan for name, labels in solution.items()],
    }
    return Scores({name: np.array(values) for name, values in columns.items()})


def landmark_retrieval(
    predictions: Mapping[str, Sequence[str]], solution: Mapping[str, Sequence[str]], depth: int = DEPTH
) -> LandmarkRetrieval:
    """Score retrieval. A repeated id keeps its first place and counts once.

    AP is divided by min(number of relevant images, depth).

    Args:
        predictions: per query the ids found, best first.
        solution: per query the relevant ids; a query without a prediction counts as not found.
        depth: how many results of each query are scored.

    Raises:
        RelookError: a prediction is for a query that is not in the solution, or the solution has no query, or a query
            has no relevant image.
    """
    _check(predictions, solution)
    precisions_aps_firsts = [
        _score(predictions.get(query, ()), relevant, depth, query) for query, relevant in solution.items()
    ]
    precisions, average_precisions, firsts = zip(*precisions_aps_firsts, strict=True)
    return LandmarkRetrieval(np.array(average_precisions), np.array(precisions), np.array(firsts, dtype=np.int64))


def recognition_gap(
    predictions: Mapping[str, Guess], solution: Mapping[str, Collection[Hashable]], ignore_others: bool = False
) -> float:
    """Global average precision: one list of all guesses, highest score first, ties by image id.

    Args:
        predictions: at most one guess per image.
        solution: per image its landmarks, empty for an image of something else.
        ignore_others: leave out guesses for images of something else, which otherwise count as wrong.

    Returns:
        A fraction: the sum of the precisions at correct guesses over the number of images with a landmark.

    Raises:
        RelookError: a guess is for an image that is not in the solution, or no image has a landmark.
    """
    images = _with_landmark(predictions, solution)
    guesses = {image: guess for image, guess in predictions.items() if solution[image] or not ignore_others}
    return sum(_gap_terms(guesses, solution).values()) / len(images)


def recognition_top1(predictions: Mapping[str, Guess], solution: Mapping[str, Collection[Hashable]]) -> float:
    """The fraction of the images with a landmark whose guess is one of theirs; no guess counts as wrong.

    Raises:
        RelookError: as `recognition_gap`.
    """
    images = _with_landmark(predictions, solution)
    correct = [image in predictions and predictions[image].label in solution[image] for image in images]
    return float(np.mean(correct))


def _score(
    prediction: Sequence[str], relevant: Sequence[str], depth: int, query: str
) -> tuple[FloatValues, float, int]:
    """Precisions [depth], AP and first correct place of one query."""
    if len(relevant) == 0:
        raise RelookError(f"query {query!r} has no relevant image, so it cannot be scored")
    hits = np.zeros(depth)
    hits[_new_hits(prediction[:depth], relevant)] = 1
    places = np.flatnonzero(hits)
    first = int(places[0]) + 1 if len(places) else depth + 1
    return np.cumsum(hits) / np.arange(1, depth + 1), average_precision(places, min(len(relevant), depth)), first


def _new_hits(prediction: Sequence[str], relevant: Iterable[str]) -> list[int]:
    """Places (from 0) of the relevant ids, each where it comes first."""
    left = set(relevant)
    hits = []
    for place, name in enumerate(prediction):
        if name in left:
            left.remove(name)
            hits.append(place)
    return hits


def _score_places(places: IntArray, relevant: int) -> list[float]:
    if relevant == 0:
        return [float("nan")] * (1 + len(PRECISIONS))
    precisions = (float(np.searchsorted(places, k)) / k for k in PRECISIONS)
    return [average_precision_at(places, relevant, DEPTH), *precisions]


def _gap_terms(guesses: Mapping[str, Guess], solution: Mapping[str, Collection[Hashable]]) -> dict[str, float]:
    """For each correct guess its precision in one list of all guesses, highest score first, ties by image id."""
    order = sorted(guesses, key=lambda image: (-guesses[image].score, image))
    correct = np.array([guesses[image].label in solution[image] for image in order], dtype=bool)
    precisions = np.cumsum(correct) / np.arange(1, len(correct) + 1)
    return {order[place]: float(precisions[place]) for place in np.flatnonzero(correct)}


def _with_landmark(predictions: Mapping[str, Guess], solution: Mapping[str, Collection[Hashable]]) -> list[str]:
    _check(predictions, solution)
    images = [image for image, landmarks in solution.items() if landmarks]
    if not images:
        raise RelookError("no image of the solution has a landmark")
    return images


def _check(predictions: Iterable[str], solution: Collection[str]) -> None:
    if not solution:
        raise RelookError("the solution has no query")
    for query in predictions:
        if query not in solution:
            raise RelookError(f"query {query!r} is not in the solution")
