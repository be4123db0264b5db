"""Cross-fitted whitenings, from which the Reranking Transformers start on small training sets.

Used by the recipes `rrt` and `rrt_sop` with `start: comparing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional

from pipeline.rerank.checkpoints import RerankCheckpoint
from pipeline.train.data.training_set import TrainingSet
from pipeline.train.init.whitening import Whitening, within_class_whitening
from pipeline.train.loop.task import Rows
from pipeline.train.rerankers.triplet_task import truth_of
from pipeline.types import FloatArray


@dataclass(frozen=True)
class CrossFitted:
    """Within-class whitenings of a training set.

    Attributes:
        training: fitted on all of the training set.
        of_half: for each half of the images (0 and 1) the one that was fitted on the other half. Fitted on themselves,
            images of one label would be more similar than those of new photos ever are.
        final: fitted on held-out images too; for the checkpoint.
    """

    training: Whitening
    of_half: tuple[Whitening, Whitening]
    final: Whitening

    @classmethod
    def fit(
        cls,
        training_set: TrainingSet,
        half: Rows,
        vectors: FloatArray,
        all_vectors: FloatArray,
        width: int,
        shrinkage: float,
    ) -> CrossFitted:
        """Fit all of them.

        Args:
            training_set: gives the labels.
            half: [N] int64, 0 or 1 per image.
            vectors: [N, D] of the training set.
            all_vectors: [M, D] in the order of `training_set.all_ids`.
            width: dimension of the result.
            shrinkage: see `within_class_whitening`.
        """
        fit = partial(within_class_whitening, dimension=width, shrinkage=shrinkage)
        labels = training_set.labels
        first, second = (
            fit(vectors, [label if half[row] != side else "" for row, label in enumerate(labels)]) for side in (0, 1)
        )
        return cls(fit(vectors, labels), (first, second), fit(all_vectors, training_set.all_labels))


def pair_cosines(vectors: torch.Tensor, drawn: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines [2 P] of the positive and the negative pairs of triplets [P, 3], and their truth [2 P]."""
    unit = functional.normalize(vectors, dim=1)
    anchor, positive, negative = (unit[rows] for rows in torch.from_numpy(drawn).unbind(1))
    return torch.cat([(anchor * positive).sum(dim=1), (anchor * negative).sum(dim=1)]), truth_of(len(anchor))


def with_projection(checkpoint: RerankCheckpoint, layer: str, whitenings: CrossFitted | None) -> RerankCheckpoint:
    """The checkpoint with the final whitening as its layer; unchanged where there is none."""
    if whitenings is not None:
        checkpoint.state[f"{layer}.weight"] = torch.from_numpy(whitenings.final.weight)
        checkpoint.state[f"{layer}.bias"] = torch.from_numpy(whitenings.final.bias)
    return checkpoint
