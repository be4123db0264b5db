"""What a reranker learns from: labelled pictures of an index, and the store's own answers to each of them.

Made by `train-rerank`, read by the recipes of this room (`recipes.py`), one per reranker.
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
from pipeline.train.loop.task import Rows, Task
from pipeline.types import Describer, Description, DescriptorSource, FloatArray, ModelCard, Reranker


@dataclass(frozen=True)
class Photos:
    """The photos of an index, for what learns from them and not from what is stored.

    Attributes:
        describer: makes the describer that the index was made with.
        pixels: the decoded picture of an id, or its box: [H, W, 3] uint8 RGB. Raises RelookError where it cannot be
            read any more.
        content: what tells whether the picture of an id is the same as in another run.
        describe: gives what a describer says of pictures by their ids, in their order. Raises as `pixels`.
    """

    describer: Callable[[], NetworkDescriber]
    pixels: Callable[[str], npt.NDArray[np.uint8]]
    content: Callable[[str], str]
    describe: Callable[[Describer, Sequence[str]], list[Description]]


@dataclass(frozen=True)
class TrainingSet:
    """N pictures to learn from.

    Attributes:
        ids: of each.
        labels: of each; "" is a distractor, which can be a negative only.
        vectors: [N, D] global descriptors of unit length.
        answers: gives the rows of each picture's first answers from the store that are among the N, best first,
            without the picture itself; with the number of answers that are wanted, and, where it is given, [N] groups:
            answers are of the picture's own group then.
        source: where their local descriptors or maps are read, by id.
        card: what made the descriptors.
        everything: the vectors and labels of held-out pictures too: for closed-form fits that are kept with the
            checkpoint and never validated.
        everyone: the ids of the pictures of `everything`, in its order.
        photos: the pictures themselves, those that are held out too; None: not at hand.
    """

    ids: Sequence[str]
    labels: Sequence[str]
    vectors: FloatArray
    answers: Callable[[int, Rows | None], list[Rows]]
    source: DescriptorSource
    card: ModelCard
    everything: tuple[FloatArray, Sequence[str]]
    everyone: Sequence[str]
    photos: Photos | None = None


class TrainedReranker(Reranker, Protocol):
    """A reranker under training: what validation tunes."""

    weight: float | None
    temperature: float


class Recipe(Protocol):
    """How one reranker is trained."""

    @property
    def task(self) -> Task:
        """What the loop runs."""

    @property
    def reranker(self) -> TrainedReranker:
        """Scores with the network as it stands; what is validated."""

    @property
    def anchors(self) -> int:
        """Pictures that it learns from."""

    def checkpoint(self) -> RerankCheckpoint:
        """What is kept of the network as it stands, with the weight and temperature of `reranker`."""


@runtime_checkable
class JointRecipe(Recipe, Protocol):
    """How a reranker is trained together with its describer: what an index holds says nothing of what that gives."""

    def describe(self, ids: Sequence[str]) -> list[Description]:
        """What the describer as it stands says of pictures of the index."""

    def save(self, path: Path) -> None:
        """Keep both in one file, instead of `checkpoint`. Raises RelookError when it cannot be written."""
