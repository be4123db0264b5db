"""Choosing what `adapt` learns: each map is tried on photos and on groups that it was not learnt from.

Held-out groups say what a map does to things that it has never seen, held-out photos of the other groups what it does
to more photos of things that it has: most queries show something that the collection holds. Held-out photos alone
would promise too much, and a dozen held-out groups alone show nothing. With few groups nearly every map ranks nearly
all held-out photos right, and how far they separate the photos of a group from others says more. From the cheapest to
the dearest, a map is taken where `is_better` says so. Labels play no part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config import AdaptConfig
from pipeline.describe.projections import fit_pca
from pipeline.evaluate import average_precision
from pipeline.train.adaptation.group_pairs import Groups
from pipeline.train.adaptation.linear_head import train_head
from pipeline.train.init.whitening import Whitening, pair_whitening
from pipeline.train.loop.task import Rows
from pipeline.types import FloatArray
from pipeline.workflow.progress import Reporter

# What whitening is tried with: how much of the covariance is replaced, and shares of the largest dimension.
SHRINKAGES, SHARES = (0.1, 0.3, 0.6, 0.9), (1, 2, 4)
# Principal axes of the collection that maps are learnt in: those beyond say next to nothing, and cost most of the time.
_AXES = 512
# Groups that maps are tried on, and queries of each, at most.
_GROUPS, _QUERIES = 500, 4
# Queries that are compared with all photos at once.
_BLOCK = 64

Learn = Callable[[Groups], Whitening]


@dataclass(frozen=True)
class Material:
    """What maps are learnt from and tried on.

    Attributes:
        vectors: [N, D] float32, of all photos but near duplicates; not all of unit length where they are on other axes.
        groups: of them.
        unsure: of each photo those that may show what its group shows: they are neither right nor wrong.
    """

    vectors: FloatArray
    groups: Groups
    unsure: Sequence[Rows]


@dataclass(frozen=True)
class Trial:
    """One kind of map.

    Attributes:
        name: "as it is", "whitening" or "linear head".
        settings: those that were best.
        photos, groups: mAP in percent of photos, and of groups, that were held out; means over groups.
        gain, error: points over what was taken before, the mean of both, and its standard error over groups.
        separation: see `separation_of`, the mean over groups.
        taken: whether it was.
    """

    name: str
    settings: dict[str, Any]
    photos: float
    groups: float
    gain: float
    error: float
    separation: float
    taken: bool


@dataclass(frozen=True)
class Adapted:
    """The map that was taken, learnt from all groups; None: descriptors stay as they are."""

    whitening: Whitening | None
    trials: list[Trial]


def choose_map(material: Material, settings: AdaptConfig, seed: int, reporter: Reporter) -> Adapted:
    """Try maps, and learn the one that is taken from all groups."""
    count, width = material.vectors.shape
    axes = fit_pca(material.vectors, min(_AXES, width, count - 1), whiten=False, what="adapt")
    inside = replace(material, vectors=np.asarray((material.vectors - axes.mean) @ axes.matrix, np.float32))
    largest = min(settings.dimension, axes.matrix.shape[1])
    trials = _Trials(material, inside, settings.folds, seed)
    sizes = sorted({max(1, largest // share) for share in SHARES})
    with reporter.bar("learn", len(SHRINKAGES) + 1, "maps") as bar:
        tried: list[tuple[HeldOut, float, int]] = []
        for shrinkage in SHRINKAGES:
            found = trials.values(partial(whiten, inside, largest, shrinkage), sizes)
            tried += [(values, shrinkage, size) for size, values in found.items()]
            bar.advance()
        better = [one for one in tried if is_better(one[0], trials.best)]
        values, shrinkage, size = (
            max(better, key=lambda one: float(one[0].separation.mean()))
            if better
            else max(tried, key=lambda one: float(one[0].both.mean()))
        )
        learn: Learn = partial(whiten, inside, size, shrinkage)
        trials.take_if_better("whitening", {"dimension": size, "shrinkage": shrinkage}, values, learn)
        head: Learn = partial(learn_head, inside, learn, seed)
        trials.take_if_better("linear head", {"dimension": size}, trials.values(head, [size])[size], head)
        bar.advance()
    if trials.taken is None:
        return Adapted(None, trials.done)
    learnt = trials.taken(material.groups)
    weight = learnt.weight @ axes.matrix.T
    return Adapted(Whitening(weight, np.asarray(learnt.bias - weight @ axes.mean, np.float32)), trials.done)


def whiten(material: Material, dimension: int, shrinkage: float, groups: Groups) -> Whitening:
    """The closed form, from pairs."""
    return pair_whitening(material.vectors, groups.pairs, groups.weights, dimension, shrinkage)


def learn_head(material: Material, start: Learn, seed: int, groups: Groups) -> Whitening:
    """The linear head, from pairs."""
    return train_head(material.vectors, groups, start(groups), seed)


@dataclass(frozen=True)
class HeldOut:
    """What a map does to held-out photos.

    Attributes:
        photos, groups: [G], of each tested group the mean average precision of its photos by a map learnt without them,
            and by one learnt without the group.
        separation: [G], the mean of both ways, see `separation_of`.
    """

    photos: npt.NDArray[np.float64]
    groups: npt.NDArray[np.float64]
    separation: npt.NDArray[np.float64]

    @property
    def both(self) -> npt.NDArray[np.float64]:
        """[G], their means."""
        return (self.photos + self.groups) / 2


def is_better(values: HeldOut, best: HeldOut) -> bool:
    """Whether a map is to be taken in place of what was best.

    It ranks held-out photos better by more than the standard error over groups; or it ranks them no worse by as much,
    and separates them better by more than two standard errors, which is 19 times of 20 no chance. Held-out groups are
    ranked no worse by more than the error, either way. Where everything is ranked right already, nothing is taken.
    """
    gain, error = _mean_and_error(values.both - best.both)
    apart, spread = _mean_and_error(values.separation - best.separation)
    seen, doubt = _mean_and_error(values.groups - best.groups)
    return gain > -error and (gain > error or apart > 2 * spread) and seen > -doubt


class _Trials:
    """Tries maps on what is held out, and keeps what was taken."""

    def __init__(self, material: Material, inside: Material, folds: int, seed: int) -> None:
        self._material, self._folds = inside, folds
        number = material.groups.number
        rng = np.random.default_rng(seed)
        tested = np.sort(rng.permutation(material.groups.count)[:_GROUPS])
        self._queries = np.concatenate(
            [np.sort(rng.permutation(np.flatnonzero(number == group))[:_QUERIES]) for group in tested.tolist()]
        )
        self._group = number[self._queries]
        group_fold = rng.permutation(material.groups.count) % folds
        # The photos of a group are spread over the folds.
        order = np.lexsort((rng.permutation(len(number)), number))
        photo_fold = np.empty(len(number), np.int64)
        photo_fold[order] = np.arange(len(number)) % folds
        self._fold = {"groups": np.where(number >= 0, group_fold[number], -1), "photos": photo_fold}
        plain, apart = map(self._per_group, measures(material, material.vectors, self._queries))
        self.taken: Learn | None = None
        self.best = HeldOut(plain, plain, apart)
        self.done = [Trial("as it is", {}, _percent(plain), _percent(plain), 0.0, 0.0, float(apart.mean()), True)]

    def values(self, learn: Learn, sizes: Sequence[int]) -> dict[int, HeldOut]:
        """What a map gives with each of some numbers of its first dimensions."""
        found = {(size, way): np.zeros((len(MEASURES), len(self._queries))) for size in sizes for way in self._fold}
        for way, fold in self._fold.items():
            for part in range(self._folds):
                places = np.flatnonzero(fold[self._queries] == part)
                mapped = learn(self._material.groups.without(fold == part)).apply(self._material.vectors)
                for size in sizes:
                    vectors = unit(mapped[:, :size])
                    found[size, way][:, places] = measures(self._material, vectors, self._queries[places])
        by_group = {key: [*map(self._per_group, values)] for key, values in found.items()}
        return {
            size: HeldOut(photos, groups, (apart + beside) / 2)
            for size in sizes
            for (photos, apart), (groups, beside) in [(by_group[size, "photos"], by_group[size, "groups"])]
        }

    def take_if_better(self, name: str, settings: dict[str, Any], values: HeldOut, learn: Learn) -> None:
        """Take a map that `is_better` than what was taken before."""
        gain, error = _mean_and_error(values.both - self.best.both)
        better = is_better(values, self.best)
        scores = _percent(values.photos), _percent(values.groups)
        apart = float(values.separation.mean())
        self.done.append(Trial(name, settings, *scores, 100 * gain, 100 * error, apart, better))
        if better:
            self.taken, self.best = learn, values

    def _per_group(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Means [G] of the values of queries."""
        sums = np.bincount(self._group, values)
        counts = np.bincount(self._group)
        return np.asarray(sums[counts > 0] / counts[counts > 0])


def _mean_and_error(gains: npt.NDArray[np.float64]) -> tuple[float, float]:
    return float(gains.mean()), float(gains.std(ddof=1) / len(gains) ** 0.5)


def measures(material: Material, vectors: FloatArray, queries: Rows) -> npt.NDArray[np.float64]:
    """[2, Q], what `MEASURES` give for each photo among those in groups; vectors [N, d] are of unit length.

    A photo in no group may show anything: to count it as wrong would speak against whatever finds more.
    """
    number = material.groups.number
    found = np.zeros((len(MEASURES), len(queries)))
    for first in range(0, len(queries), _BLOCK):
        some = queries[first : first + _BLOCK]
        similarity = vectors[some] @ vectors.T
        for place, query in enumerate(some.tolist()):
            others = number >= 0
            others[material.unsure[query]] = others[query] = False
            values, positive = similarity[place, others], number[others] == number[query]
            found[:, first + place] = [measure(values, positive) for measure in MEASURES]
    return found


def precision_of(similarity: FloatArray, positive: npt.NDArray[np.bool_]) -> float:
    """The average precision of the positives."""
    places = np.flatnonzero(positive[np.argsort(-similarity, kind="stable")])
    return average_precision(places, len(places))


def separation_of(similarity: FloatArray, positive: npt.NDArray[np.bool_]) -> float:
    """How many standard deviations of the others the mean positive lies above their mean: d' of signal detection.

    0 where there are no positives, or fewer than two others.
    """
    others = similarity[~positive]
    if not positive.any() or len(others) < 2:
        return 0.0
    return float((similarity[positive].mean() - others.mean()) / max(float(others.std()), 1e-6))


# Measures of the similarities [M] of a photo to others, of which some, [M] bool, are of its group.
MEASURES: tuple[Callable[[FloatArray, npt.NDArray[np.bool_]], float], ...] = (precision_of, separation_of)


def unit(vectors: FloatArray) -> FloatArray:
    """Rows of unit length."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12), np.float32)


def _percent(values: npt.NDArray[np.float64]) -> float:
    return 100 * float(values.mean())
