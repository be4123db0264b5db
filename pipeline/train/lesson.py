"""What a reranker learns from: labelled pictures of an index, and the store's own answers to each of them.

Made by `train-rerank`, read by the recipes of this room (`recipes.py`), one per reranker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.rerank.checkpoints import RerankCheckpoint
from pipeline.train.task import Rows, Task
from pipeline.types import DescriptorSource, FloatArray, ModelCard, Reranker


@dataclass(frozen=True)
class Lesson:
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
        photo: gives the file of a picture by its id.
    """

    ids: Sequence[str]
    labels: Sequence[str]
    vectors: FloatArray
    answers: Callable[[int, Rows | None], list[Rows]]
    source: DescriptorSource
    card: ModelCard
    everything: tuple[FloatArray, Sequence[str]]
    everyone: Sequence[str]
    photo: Callable[[str], Path]


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
