"""Training of a binarised AMES: bits that a teacher of full precision explains.

The other half of the recipe `ames` (`ames.py`). Suma et al., ECCV 2024: beside the labels, the student learns to have
the teacher's tokens after the last layer, where the teacher sees as many descriptors as there are and the student as
many as were drawn. Its bits start from iterative quantisation (`itq.py`).
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
from pipeline.rerank.checkpoints import RerankCheckpoint
from pipeline.rerank.pair_reranker import joint_padding
from pipeline.train.data.ames_pairs import begun, projection, twice
from pipeline.train.data.stored_locals import StoredLocals
from pipeline.train.data.training_set import Recipe, TrainingSet
from pipeline.train.data.triplets import Triplets
from pipeline.train.init.ames import start_as_published
from pipeline.train.init.itq import Doubles, directions, rotation
from pipeline.train.loop.task import Rows
from pipeline.train.rerankers.ames import AMESRecipe, AMESTask, Compared, check_locals, reranker_of, shape_for, sources
from pipeline.types import FloatArray, ModelCard

# Of the least squares that explain the teacher's tokens by bits, as a part of their number.
_RIDGE = 1e-3
# Sizes that a student has in common with its teacher.
_SIZES = ("model_dim", "heads", "layers", "feedforward")


class Taught(NamedTuple):
    """Triplets with all descriptors, and how many of them the student sees."""

    whole: Compared
    query: int
    gallery: int

    @property
    def seen(self) -> Compared:
        """What the student sees."""
        return Compared(self.whole.anchors.first(self.query), self.whole.others.first(self.gallery))


class AMESStudentTask(AMESTask):
    """Learns from labels and a teacher; see `AMESTask` for the other arguments.

    Args:
        teacher: of full precision, as large as the student; it is not changed.
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

    def load(self, rows: Rows) -> Taught:  # type: ignore[override]
        """See `Task.load`."""
        model = self._settings.ames
        return Taught(self.compared(rows, model.query_locals, model.gallery_locals), *rows[0, 3:].tolist())

    def forward(self, loaded: Taught) -> torch.Tensor:  # type: ignore[override]
        """See `Task.forward`."""
        model, device, turn = self._settings.ames, self.network.mtc_token.device, self.turn()
        seen = Compared(*(side.to(device) for side in loaded.seen))
        whole = Compared(*(side.to(device) for side in loaded.whole))
        tokens, there, place = _tokens(self.network, seen, turn, model.variance)
        with torch.no_grad():
            taught, _, whole_place = _tokens(self.teacher, whole, turn, None)
            first = taught[:, :place], taught[:, whole_place : whole_place + tokens.shape[1] - place]
        logits = self.network.classifier(tokens[:, place]).squeeze(-1)
        error = (tokens - torch.cat(first, dim=1)).square().mean(dim=-1)[there].mean()
        truth = seen.truth.to(device)
        return functional.binary_cross_entropy_with_logits(logits, truth) + model.distillation * error


class AMESStudentRecipe:
    """See `Recipe`. A binarised network and its teacher.

    From the comparing start it begins as the teacher with bits for descriptors: iterative quantisation of what the
    teacher projects, and the least squares that explain the projection by bits. From the paper's start its bits are
    iterative quantisation of the descriptors, and all else is random.

    Raises:
        UsageError: no teacher is given.
        MiningError: the labels give nothing to learn from.
        RelookError: the index has no locals, or the teacher is of another size, or of other descriptors.
    """

    def __init__(self, training_set: TrainingSet, settings: TrainRerankConfig, seed: int, device: str) -> None:
        model = settings.ames
        check_locals(training_set.card)
        teacher = _teacher(settings, training_set.card)
        triplets, stored = sources(training_set, settings)
        torch.manual_seed(seed)
        network = AMESNetwork(shape_for(model, training_set.card, binarised=True))
        samples, _ = stored.sample()
        if model.start == "comparing":
            start_like(network, teacher, samples, seed)
        else:
            start_as_published(network)
            base = directions(samples, model.model_dim)
            _set_bits(network, base @ rotation(samples @ base, seed)[0])
        self.task = AMESStudentTask(network, teacher, stored, triplets, training_set.ids, settings)
        self.reranker = reranker_of(network, settings, training_set.card, device)
        self.anchors = len(triplets.anchors)

    def checkpoint(self) -> RerankCheckpoint:
        """See `Recipe.checkpoint`."""
        return self.reranker.to_checkpoint()


def ames_recipe(training_set: TrainingSet, settings: TrainRerankConfig, seed: int, device: str) -> Recipe:
    """The recipe of the variant that the settings ask for. Raises UsageError when they ask for a half of one."""
    if settings.ames.binarised:
        return AMESStudentRecipe(training_set, settings, seed, device)
    if settings.ames.teacher is not None:
        raise UsageError("train_rerank.ames.teacher is for bits; set train_rerank.ames.binarised=true, or no teacher")
    return AMESRecipe(training_set, settings, seed, device)


def start_like(student: AMESNetwork, teacher: AMESNetwork, samples: FloatArray, seed: int) -> None:
    """Start a binarised network as one of full precision, with bits for descriptors.

    Args:
        student, teacher: of equal sizes but for the binarisation.
        samples: [M, local_dim] unit descriptors.
        seed: of the first rotation.
    """
    state = {key: value for key, value in teacher.state_dict().items() if not key.startswith("remap_local.")}
    student.load_state_dict(state, strict=False)
    (linear, norm), (own_linear, own_norm) = projection(teacher), projection(student)
    own_norm.load_state_dict(norm.state_dict())
    weight = linear.weight.detach().double().numpy().T
    wanted = samples @ weight + linear.bias.detach().double().numpy()
    # Signs have no offset: what all descriptors have in common is left out.
    mean = samples.mean(axis=0, dtype=np.float64)
    weight = weight - np.outer(mean, mean @ weight) / max(float(mean @ mean), 1e-12)
    weight = weight @ rotation(samples @ weight, seed)[0]
    bits = np.column_stack([np.sign(samples @ weight), np.ones(len(samples))])
    ridge = _RIDGE * len(bits) * np.eye(bits.shape[1])
    explained = np.linalg.solve(bits.T @ bits + ridge, bits.T @ wanted)
    _set_bits(student, weight)
    with torch.no_grad():
        own_linear.weight.copy_(torch.from_numpy(explained[:-1].T))
        own_linear.bias.copy_(torch.from_numpy(explained[-1]))


def _tokens(
    network: AMESNetwork, pairs: Compared, turn: torch.Tensor | None, variance: float | None
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Tokens [2 B, n, d] after the last layer, [2 B, n] bool where there is one, and the place of the match."""
    anchors, others = (begun(network, side, turn, variance) for side in pairs)
    queries = twice(anchors)
    tokens = network.tokens(queries, others)
    padding = joint_padding(queries, others, before=(0, 1))
    there = torch.ones_like(tokens[..., 0], dtype=torch.bool) if padding is None else ~padding
    return tokens, there, queries.rows.shape[1]


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
        raise RelookError(f"{path}: binarised itself; a teacher is of full precision")
    reranker.check(card)
    wrong = [name for name in _SIZES if getattr(shape, name) != getattr(model, name)]
    if wrong:
        asked = ", ".join(f"train_rerank.ames.{name}={getattr(shape, name)}" for name in wrong)
        raise RelookError(f"{path}: a teacher of another size than the student; set {asked}")
    return reranker.network


def _set_bits(network: AMESNetwork, weight: Doubles) -> None:
    first = network.remap_local[0]
    assert isinstance(first, Binarised)
    with torch.no_grad():
        first.W.copy_(torch.from_numpy(weight))
