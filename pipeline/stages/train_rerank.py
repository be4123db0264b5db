"""`train-rerank`: a reranker learns from the store's own candidates.

Between extract and search, for those rerankers that are trained. Labelled pictures of the index are anchors; their
candidates come from the store; a held-out part of each label chooses the epoch and the fusion weight.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pipeline.config import Config
from pipeline.errors import RelookError, unknown_name
from pipeline.rerank.checkpoints import save_checkpoint
from pipeline.rerank.rrt import RRTReranker, tokens_of
from pipeline.rerank.rrt_network import RRTNetwork, RRTShape
from pipeline.stages.judging import Judge
from pipeline.stages.opening import Gallery, choose_device, default_checkpoint, open_gallery
from pipeline.stages.progress import Reporter, Silent, logger
from pipeline.train import (
    Progress,
    RRTTask,
    Triplets,
    Validation,
    calibrate_skip,
    fit,
    halves,
    hold_out_labels,
    hold_out_sessions,
    start_comparing,
    within_class_whitening,
)
from pipeline.train.loop import Schedule
from pipeline.train.triplets import Rows
from pipeline.train.whitening import Whitening
from pipeline.types import (
    FloatArray,
    ImageRecord,
    ModelCard,
)

TRAINABLE = ("rrt",)


@dataclass(frozen=True)
class TrainResult:
    """What a training did; `best` holds the epoch and its validation metrics in percent."""

    checkpoint: str
    epochs: int
    best: dict[str, float]
    history: list[dict[str, float]]
    anchors: int
    validation_queries: int
    seconds: float
    weights: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`; the keys are the CLI's contract."""
        return {
            "checkpoint": self.checkpoint,
            "epochs": self.epochs,
            "best": self.best,
            "history": self.history,
            "anchors": self.anchors,
            "validation_queries": self.validation_queries,
            "seconds": self.seconds,
            "weights": self.weights,
        }


def train_rerank(config: Config, reporter: Reporter | None = None) -> TrainResult:
    """Train the reranker `train_rerank.reranker` on the index.

    Raises:
        UsageError: no such reranker.
        MiningError: the labels give nothing to learn from.
        RelookError: the index has no locals, or too few labelled pictures to hold any out.
    """
    reporter = reporter or Silent()
    settings = config.train_rerank
    if settings.reranker not in TRAINABLE:
        raise unknown_name("trainable reranker", settings.reranker, TRAINABLE)
    gallery = open_gallery(config)
    card = gallery.index.card
    if not card.local_dimension:
        raise RelookError("rrt learns from local descriptors; extract with --set describe.locals.count=50")
    records = [record for record in gallery.index.records.values() if settings.split in (None, record.split)]
    labels = [record.label for record in records]
    if not any(labels):
        raise RelookError("no picture of the index has a label to learn from; give a manifest with a column label")
    vectors = gallery.globals([record.id for record in records])
    if settings.hold_out == "labels":
        parts = hold_out_labels(labels, settings.validation, config.seed)
    else:
        parts = hold_out_sessions(labels, vectors, settings.validation, config.seed)
    learn, held_out = ([records[row] for row in rows] for rows in (parts.learn, parts.validate))
    whole = within_class_whitening(vectors, labels, card.local_dimension, settings.shrinkage)
    return _train(config, gallery, card, learn, held_out, whole, reporter)


def _train(
    config: Config,
    gallery: Gallery,
    card: ModelCard,
    learn: list[ImageRecord],
    held_out: list[ImageRecord],
    whole: Whitening,
    reporter: Reporter,
) -> TrainResult:
    """`whole` is the projection fitted on everything, held-out pictures too: what is kept has that one.

    The transformer takes descriptors in any rotation, so it reads the better projection as well as the one it was
    validated with.
    """
    settings = config.train_rerank
    device = choose_device(config)
    out = settings.out or default_checkpoint(config.index, settings.reranker)
    task = _task(config, gallery, card, learn, torch.device(device))
    reranker = RRTReranker(task.network, card, device=device)
    judge = Judge(gallery, held_out, reranker, config)

    def save_best(validation: Validation) -> None:
        reranker.weight, reranker.temperature = validation.extra["weight"], validation.extra["temperature"]
        checkpoint = reranker.to_checkpoint()
        checkpoint.state["remap.weight"] = torch.from_numpy(whole.weight)
        checkpoint.state["remap.bias"] = torch.from_numpy(whole.bias)
        save_checkpoint(out, checkpoint)

    schedule = Schedule(
        settings.epochs,
        settings.learning_rate,
        settings.weight_decay,
        settings.warmup,
        config.seed,
        settings.average,
    )
    with reporter.bar("train", settings.epochs * task.steps(), "steps") as bar:

        def show(progress: Progress) -> None:
            if progress.validation is None:
                bar.advance(1, f"epoch {progress.epoch} loss {progress.loss:.3f}")
            else:
                words = " ".join(f"{name} {value:.2f}" for name, value in progress.validation.metrics.items())
                logger.info("epoch %d: loss %.4f %s", progress.epoch, progress.loss, words)

        trained = fit(
            task,
            schedule,
            judge,
            save_best,
            state_file=out.with_name(f"{out.name}.state"),
            log_dir=out.with_name(f"{out.stem}-log"),
            identity=_identity(config, card, learn),
            report=show,
        )
    return TrainResult(
        checkpoint=str(out),
        epochs=len(trained.history),
        best={"epoch": trained.best_epoch, **trained.best.metrics},
        history=trained.history,
        anchors=task.anchors,
        validation_queries=judge.count,
        seconds=trained.seconds,
        weights=card.weights,
    )


def _task(
    config: Config, gallery: Gallery, card: ModelCard, learn: Sequence[ImageRecord], device: torch.device
) -> RRTTask:
    """A network that can compare, and descriptors to learn from.

    The globals of each half are projected by a whitening that was fitted on the other: fitted on themselves, pictures
    of one label would look more alike than those of new photos ever do.
    """
    settings = config.train_rerank
    labels = [record.label for record in learn]
    described = gallery.describe([record.id for record in learn], RRTReranker.needs)
    vectors = np.stack([description.vector for description in described])
    half = halves(labels, vectors)
    triplets = Triplets(labels, _candidates(gallery, learn, vectors, half, settings.candidates), half.tolist())
    network = _network(config, card)
    width = network.shape.d_model
    start_comparing(network, within_class_whitening(vectors, labels, width, settings.shrinkage))
    projected = np.empty((len(learn), width), np.float32)
    for side in (0, 1):
        others = [label if half[row] != side else "" for row, label in enumerate(labels)]
        whitening = within_class_whitening(vectors, others, width, settings.shrinkage)
        projected[half == side] = whitening.apply(vectors[half == side])
    _calibrate(network, projected, triplets, config)
    tokens = replace(tokens_of(described, network.shape), vector=torch.from_numpy(projected))
    return RRTTask(network, tokens, triplets, settings.triplets, settings.batch_size, device)


def _calibrate(network: RRTNetwork, projected: FloatArray, triplets: Triplets, config: Config) -> None:
    drawn = triplets.epoch(config.train_rerank.triplets, np.random.default_rng(config.seed))
    unit = torch.nn.functional.normalize(torch.from_numpy(projected), dim=1)
    anchor, positive, negative = (unit[rows] for rows in torch.from_numpy(drawn).unbind(1))
    cosines = torch.cat([(anchor * positive).sum(dim=1), (anchor * negative).sum(dim=1)])
    calibrate_skip(network, cosines, torch.cat([torch.ones(len(anchor)), torch.zeros(len(anchor))]))


def _candidates(
    gallery: Gallery, learn: Sequence[ImageRecord], vectors: FloatArray, half: Rows, count: int
) -> list[Rows]:
    """Per picture the rows of its first `count` answers from the store that are to be learnt from, in its own half."""
    rows = {record.id: row for row, record in enumerate(learn)}
    total = len(gallery.index.records)
    # Ask for so many more that enough are left when the others are dropped.
    depth = min(total, round(2.5 * (count + 1) * total / len(learn)))
    found = gallery.store.query(vectors, depth)
    answers = [[rows[name] for name in ids if name in rows] for ids, _ in found]
    return [
        np.array([row for row in answer if row != own and half[row] == half[own]][:count], dtype=np.int64)
        for own, answer in enumerate(answers)
    ]


def _network(config: Config, card: ModelCard) -> RRTNetwork:
    model = config.train_rerank.model
    shape = RRTShape(
        d_global=card.dimension,
        d_model=card.local_dimension,
        heads=model.heads,
        layers=model.layers,
        feedforward=model.feedforward,
        dropout=model.dropout,
        scale_rule="nearest",
        token_length=card.local_dimension**0.5,
        locals=model.locals,
        symmetric=True,
        skip=True,
    )
    torch.manual_seed(config.seed)
    return RRTNetwork(shape)


def _identity(config: Config, card: ModelCard, learn: Sequence[ImageRecord]) -> str:
    """Equal for runs that would learn the same: settings, descriptors and pictures."""
    settings = config.train_rerank.model_dump(mode="json", exclude={"out"})
    text = json.dumps([settings, config.seed, card.fingerprint, [record.id for record in learn]])
    return hashlib.sha256(text.encode()).hexdigest()
