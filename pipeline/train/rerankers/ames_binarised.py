"""Training of a binarised AMES by distillation from a teacher of full precision.

The other variant of the recipe `ames` (`ames.py`). Suma et al., ECCV 2024: beside the loss on labels, a second loss is
the distance between the student's and the teacher's tokens after the last layer; the teacher reads all descriptors, the
student as many as were drawn. The bits start from iterative quantisation (`init/itq.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from pipeline.config import TrainRerankConfig
from pipeline.errors import RelookError, UsageError
from pipeline.rerank.ames.network import AMESNetwork, Binarised
from pipeline.rerank.ames.reranker import AMESReranker
from pipeline.rerank.pair_reranker import joint_padding
from pipeline.train.data.ames_pairs import begin_side, projection, repeat_twice
from pipeline.train.data.stored_locals import StoredLocals
from pipeline.train.data.training_set import Recipe, TrainingSet
from pipeline.train.data.triplets import Triplets
from pipeline.train.init.ames import start_as_published
from pipeline.train.init.itq import Doubles, fit_rotation, principal_directions
from pipeline.train.loop.task import Rows
from pipeline.train.rerankers.ames import (
    AMESRecipe,
    AMESTask,
    check_locals,
    shape_for,
    triplets_and_locals,
    validated_reranker,
)
from pipeline.train.rerankers.triplet_locals import TripletLocals
from pipeline.train.rerankers.triplet_task import TripletRecipe
from pipeline.types import FloatArray, ModelCard

# Ridge of the least squares from bits to the teacher's projection, relative to the number of samples.
_RIDGE = 1e-3
# Sizes in which student and teacher must agree.
_SIZES = ("model_dim", "heads", "layers", "feedforward")


class DistillationBatch(NamedTuple):
    """Triplets with all descriptors, and the numbers of them that the student reads."""

    teacher: TripletLocals
    query: int
    gallery: int

    @property
    def student(self) -> TripletLocals:
        """The student's part of the descriptors."""
        return TripletLocals(self.teacher.anchors.first(self.query), self.teacher.others.first(self.gallery))


class AMESStudentTask(AMESTask):
    """Binary cross-entropy on pairs, and distillation; see `AMESTask` for the other arguments.

    Args:
        teacher: of full precision and of the student's sizes; it is not changed.
    """

    def __init__(
        self,
        network: AMESNetwork,
        teacher: AMESNetwork,
        stored: StoredLocals,
        triplets: Triplets,
        ids: Sequence[str],
        settings: TrainRerankConfig,
    ) -> None:
        super().__init__(network, stored, triplets, ids, settings)
        self.teacher = teacher.requires_grad_(False)

    def load(self, rows: Rows) -> DistillationBatch:  # type: ignore[override]
        """See `TrainingTask.load`."""
        model = self._settings.ames
        whole = self.triplet_locals(rows, model.query_locals, model.gallery_locals)
        return DistillationBatch(whole, *rows[0, 3:].tolist())

    def forward(self, loaded: DistillationBatch) -> torch.Tensor:  # type: ignore[override]
        """See `TrainingTask.forward`."""
        model, device, rotation = self._settings.ames, self.network.mtc_token.device, self.draw_rotation()
        student = TripletLocals(*(side.to(device) for side in loaded.student))
        teacher = TripletLocals(*(side.to(device) for side in loaded.teacher))
        tokens, valid, place = _tokens(self.network, student, rotation, model.variance)
        with torch.no_grad():
            targets, _, target_place = _tokens(self.teacher, teacher, rotation, None)
            # The student's descriptors are the first ones of either side of the teacher's.
            target = targets[:, :place], targets[:, target_place : target_place + tokens.shape[1] - place]
        logits = self.network.classifier(tokens[:, place]).squeeze(-1)
        error = (tokens - torch.cat(target, dim=1)).square().mean(dim=-1)[valid].mean()
        truth = student.truth.to(device)
        return functional.binary_cross_entropy_with_logits(logits, truth) + model.distillation * error


class AMESStudentRecipe(TripletRecipe):
    """See `Recipe`. Trains a binarised network with a teacher.

    The comparing start copies the teacher and replaces its descriptors by bits: iterative quantisation of the teacher's
    projection, and a least-squares fit from bits to that projection. From the paper's start the bits are the iterative
    quantisation of the descriptors, and all else is random.

    Raises:
        UsageError: no teacher is given.
        MiningError: the labels give no triplets.
        RelookError: the index has no locals, or the teacher is of another size, or of other descriptors.
    """

    task: AMESStudentTask
    reranker: AMESReranker

    def __init__(self, training_set: TrainingSet, settings: TrainRerankConfig, seed: int, device: str) -> None:
        model = settings.ames
        check_locals(training_set.card)
        teacher = _teacher(settings, training_set.card)
        triplets, stored = triplets_and_locals(training_set, settings)
        torch.manual_seed(seed)
        network = AMESNetwork(shape_for(model, training_set.card, binarised=True))
        samples, _ = stored.sample()
        if model.start == "comparing":
            start_from_teacher(network, teacher, samples, seed)
        else:
            start_as_published(network)
            base = principal_directions(samples, model.model_dim)
            _set_bits(network, base @ fit_rotation(samples @ base, seed)[0])
        self.task = AMESStudentTask(network, teacher, stored, triplets, training_set.ids, settings)
        self.reranker = validated_reranker(network, settings, training_set.card, device)


def ames_recipe(training_set: TrainingSet, settings: TrainRerankConfig, seed: int, device: str) -> Recipe:
    """The recipe of the variant in the settings. Raises UsageError for a teacher without `binarised`."""
    if settings.ames.binarised:
        return AMESStudentRecipe(training_set, settings, seed, device)
    if settings.ames.teacher is not None:
        raise UsageError(
            "train_rerank.ames.teacher is for a binarised network; set train_rerank.ames.binarised=true, or no teacher"
        )
    return AMESRecipe(training_set, settings, seed, device)


def start_from_teacher(student: AMESNetwork, teacher: AMESNetwork, samples: FloatArray, seed: int) -> None:
    """Copy a teacher's weights to a binarised network, and fit its bits.

    Args:
        student, teacher: of equal sizes except for the binarisation.
        samples: [M, local_dim] unit descriptors.
        seed: of the first rotation.
    """
    state = {key: value for key, value in teacher.state_dict().items() if not key.startswith("remap_local.")}
    student.load_state_dict(state, strict=False)
    (linear, norm), (own_linear, own_norm) = projection(teacher), projection(student)
    own_norm.load_state_dict(norm.state_dict())
    weight = linear.weight.detach().double().numpy().T
    wanted = samples @ weight + linear.bias.detach().double().numpy()
    # Signs have no offset: the mean of the descriptors is removed.
    mean = samples.mean(axis=0, dtype=np.float64)
    weight = weight - np.outer(mean, mean @ weight) / max(float(mean @ mean), 1e-12)
    weight = weight @ fit_rotation(samples @ weight, seed)[0]
    bits = np.column_stack([np.sign(samples @ weight), np.ones(len(samples))])
    ridge = _RIDGE * len(bits) * np.eye(bits.shape[1])
    solution = np.linalg.solve(bits.T @ bits + ridge, bits.T @ wanted)
    _set_bits(student, weight)
    with torch.no_grad():
        own_linear.weight.copy_(torch.from_numpy(solution[:-1].T))
        own_linear.bias.copy_(torch.from_numpy(solution[-1]))


def _tokens(
    network: AMESNetwork, pairs: TripletLocals, rotation: torch.Tensor | None, variance: float | None
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Tokens [2 B, n, d] after the last layer, [2 B, n] bool False for padding, and the matching token's place."""
    anchors, others = (begin_side(network, side, rotation, variance) for side in pairs)
    queries = repeat_twice(anchors)
    tokens = network.tokens(queries, others)
    padding = joint_padding(queries, others, before=(0, 1))
    valid = torch.ones_like(tokens[..., 0], dtype=torch.bool) if padding is None else ~padding
    return tokens, valid, queries.rows.shape[1]


def _teacher(settings: TrainRerankConfig, card: ModelCard) -> AMESNetwork:
    model, path = settings.ames, settings.ames.teacher
    if path is None:
        raise UsageError(
            "train_rerank.ames.binarised needs train_rerank.ames.teacher=FILE; make one without binarised: "
            "relook train-rerank --reranker ames --out FILE"
        )
    if settings.out is not None and settings.out.resolve() == path.resolve():
        raise UsageError(f"{path}: train_rerank.ames.teacher and train_rerank.out are the same file; give another out")
    reranker = AMESReranker.load(path, heads=model.heads)
    shape = reranker.network.shape
    if shape.binarised:
        raise RelookError(f"{path}: binarised; a teacher must be of full precision")
    reranker.check(card)
    wrong = [name for name in _SIZES if getattr(shape, name) != getattr(model, name)]
    if wrong:
        remedy = ", ".join(f"train_rerank.ames.{name}={getattr(shape, name)}" for name in wrong)
        raise RelookError(f"{path}: a teacher of another size than the student; set {remedy}")
    return reranker.network


def _set_bits(network: AMESNetwork, weight: Doubles) -> None:
    first = network.remap_local[0]
    assert isinstance(first, Binarised)
    with torch.no_grad():
        first.W.copy_(torch.from_numpy(weight))
