"""The training set of a reranker: labelled images of an index, and the store's candidates for each of them.

Made by `train-rerank`, read by the recipes in `rerankers/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from pipeline.describe.describer import NetworkDescriber
from pipeline.rerank.checkpoints import RerankCheckpoint
from pipeline.train.loop.task import Rows, TrainingTask
from pipeline.types import Describer, Description, DescriptorSource, FloatArray, ModelCard, Reranker


@dataclass(frozen=True)
class Photos:
    """The photos of an index, for recipes that train on pixels instead of stored descriptors.

    Attributes:
        describer: loads the describer that the index was made with.
        pixels: decodes the photo of an id, or its box: [H, W, 3] uint8 RGB. Raises RelookError if it can no longer be
            read.
        content: a key of an id's photo that is equal in two runs exactly when the photo is.
        describe: the descriptions that a describer makes of ids, in their order. Raises as `pixels`.
    """

    describer: Callable[[], NetworkDescriber]
    pixels: Callable[[str], npt.NDArray[np.uint8]]
    content: Callable[[str], str]
    describe: Callable[[Describer, Sequence[str]], list[Description]]


@dataclass(frozen=True)
class TrainingSet:
    """N labelled images of an index.

    Attributes:
        ids: of each.
        labels: of each; "" is a distractor, which can only be a negative.
        vectors: [N, D] global descriptors of unit length.
        candidates: called with a number k, and None or a group number of each image [N]: for each image the rows of
            its first k candidates from the store, best first; only rows among the N, of its own group, without itself.
        source: reads their local descriptors or maps by id.
        card: of the index.
        all_ids, all_labels, all_vectors: of these and of the held-out images: for closed-form fits that go into the
            checkpoint and are never validated.
        photos: the photos of all of these; None: not available.
    """

    ids: Sequence[str]
    labels: Sequence[str]
    vectors: FloatArray
    candidates: Callable[[int, Rows | None], list[Rows]]
    source: DescriptorSource
    card: ModelCard
    all_ids: Sequence[str]
    all_labels: Sequence[str]
    all_vectors: FloatArray
    photos: Photos | None = None


class TrainedReranker(Reranker, Protocol):
    """A reranker that is being trained, with the two numbers that validation tunes."""

    weight: float | None
    temperature: float


class Recipe(Protocol):
    """How one reranker is trained.

    Attributes:
        temperatures: factors on the logit that validation chooses from.
    """

    temperatures: tuple[float, ...]

    @property
    def task(self) -> TrainingTask:
        """The task that the loop runs."""

    @property
    def reranker(self) -> TrainedReranker:
        """Scores with the current weights, for validation."""

    @property
    def anchors(self) -> int:
        """How many training images are an anchor."""

    def checkpoint(self) -> RerankCheckpoint:
        """The current weights, with the weight and temperature of `reranker`."""


@runtime_checkable
class JointRecipe(Recipe, Protocol):
    """How a reranker is trained together with its describer, so that the stored descriptors no longer apply."""

    def describe(self, ids: Sequence[str]) -> list[Description]:
        """Descriptions of images of the index by the describer with its current weights."""

    def save(self, path: Path) -> None:
        """Save both in one file, instead of `checkpoint`. Raises RelookError when it cannot be written."""
