"""`train-rerank`: a reranker learns from the store's own candidates.

Between extract and search, for those rerankers that are trained. Labelled pictures of the index are anchors; their
candidates come from the store; a held-out part chooses the epoch and the fusion weight.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.config import Config
from pipeline.errors import RelookError, unknown_name
from pipeline.rerank.checkpoints import save_checkpoint
from pipeline.train import (
    RECIPES,
    DryRun,
    JointRecipe,
    Partition,
    Photos,
    Recipe,
    TrainingSet,
    Validation,
    dry_run,
    hold_out_labels,
    hold_out_sessions,
)
from pipeline.train.loop.distributed import process_group
from pipeline.train.loop.task import Rows
from pipeline.types import FloatArray, ImageRecord
from pipeline.workflow.gallery import Gallery, open_gallery
from pipeline.workflow.model_loading import choose_device, default_checkpoint
from pipeline.workflow.progress import Reporter, Silent, logger
from pipeline.workflow.training.index_photos import index_photos
from pipeline.workflow.training.reranker_validation import RerankerValidator
from pipeline.workflow.training.training_run import last_beside, run_training

# mAP in percent at which hardly a query is left that re-ranking could improve.
_SATURATED = 99.9


@dataclass(frozen=True)
class TrainResult:
    """What a training did; `best` holds the epoch and its validation metrics in percent.

    `warning` says that the checkpoint changes no ranking, or that the validation cannot tell; "" otherwise.
    """

    checkpoint: str
    epochs: int
    best: dict[str, float]
    history: list[dict[str, float]]
    anchors: int
    validation_queries: int
    seconds: float
    weights: str
    warning: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`; the keys are the CLI's contract."""
        return asdict(self)


def train_rerank(config: Config, reporter: Reporter | None = None) -> TrainResult:
    """Train the reranker `train_rerank.reranker` on the index.

    Raises:
        UsageError: no such reranker.
        MiningError: the labels give nothing to learn from.
        LockedError: another training writes the same checkpoint.
        RelookError: the index lacks what the reranker reads, or too few labelled pictures to hold any out.
    """
    settings = config.train_rerank
    out = settings.out or default_checkpoint(config.index, settings.reranker)
    with _prepared(config) as ready:
        gallery, records, recipe = ready.gallery, ready.records, ready.recipe
        judge = RerankerValidator(gallery, [records[row] for row in ready.held_out], settings.reranker, recipe, config)
        trained = run_training(
            recipe.task,
            settings,
            judge,
            _saver(recipe, out),
            out=out,
            identity=_identity(config, gallery, records),
            seed=config.seed,
            device=ready.device,
            reporter=reporter or Silent(),
        )
    warning = usefulness(trained.best.metrics)
    if warning:
        logger.warning("%s: %s", out, warning)
    return TrainResult(
        checkpoint=str(out),
        epochs=len(trained.history),
        best={"epoch": trained.best_epoch, **trained.best.metrics},
        history=trained.history,
        anchors=recipe.anchors,
        validation_queries=judge.count,
        seconds=trained.seconds,
        weights=gallery.index.card.weights,
        warning=warning,
    )


def usefulness(best: Mapping[str, float]) -> str:
    """Why a checkpoint with these validation metrics is of no use; "" where it is.

    Args:
        best: "weight" of the global score in the fused one, and "global mAP" of the validation, in percent.
    """
    if best["weight"] == 1:
        return "the tuned weight of the global score is 1.00, so that re-ranking with it changes nothing"
    if best["global mAP"] >= _SATURATED:
        return (
            f"the global search reaches {best['global mAP']:.2f} mAP on the held-out queries, so that they cannot show "
            "a gain; validate on more or harder images (train_rerank.hold_out, train_rerank.validation)"
        )
    return ""


def dry_run_rerank(config: Config) -> DryRun:
    """What `train_rerank` would cost, by a few of its steps; nothing is written. Raises as it does."""
    with _prepared(config) as ready:
        return dry_run(ready.recipe.task, config.train_rerank, config.seed, ready.device)


@dataclass(frozen=True)
class _Ready:
    """All that there is before the first step."""

    gallery: Gallery
    records: list[ImageRecord]
    held_out: Rows
    recipe: Recipe
    device: torch.device


@contextmanager
def _prepared(config: Config) -> Iterator[_Ready]:
    """Within the block the processes of torchrun, where there are several, are joined."""
    settings = config.train_rerank
    if settings.reranker not in RECIPES:
        raise unknown_name("trainable reranker", settings.reranker, RECIPES)
    with process_group(torch.device(choose_device(config))) as device:
        gallery = open_gallery(config, partial="error")
        records, vectors, parts = _divided(config, gallery)
        training_set = make_training_set(gallery, records, vectors, parts.learn, index_photos(gallery, config))
        recipe = RECIPES[settings.reranker](training_set, settings, config.seed, str(device))
        yield _Ready(gallery, records, parts.validate, recipe, device)


def _divided(config: Config, gallery: Gallery) -> tuple[list[ImageRecord], FloatArray, Partition]:
    """The pictures to use, their global descriptors, and which of them are held out."""
    settings = config.train_rerank
    records = [record for record in gallery.index.records.values() if settings.split in (None, record.split)]
    labels = [record.label for record in records]
    if not any(labels):
        raise RelookError("no picture of the index has a label to learn from; give a manifest with a column label")
    vectors = gallery.globals([record.id for record in records])
    if settings.hold_out == "labels":
        return records, vectors, hold_out_labels(labels, settings.validation, config.seed)
    return records, vectors, hold_out_sessions(labels, vectors, settings.validation, config.seed)


def make_training_set(
    gallery: Gallery,
    records: Sequence[ImageRecord],
    vectors: FloatArray,
    rows: Rows,
    photos: Photos | None = None,
) -> TrainingSet:
    """What is learnt from those `rows` of the N records, whose global descriptors are [N, D] `vectors`."""
    chosen = [records[row] for row in rows]
    return TrainingSet(
        ids=[record.id for record in chosen],
        labels=[record.label for record in chosen],
        vectors=vectors[rows],
        answers=lambda count, groups: _answers(gallery, chosen, vectors[rows], count, groups),
        source=gallery,
        card=gallery.index.card,
        everything=(vectors, [record.label for record in records]),
        everyone=[record.id for record in records],
        photos=photos,
    )


def _answers(
    gallery: Gallery, records: Sequence[ImageRecord], vectors: FloatArray, count: int, groups: Rows | None
) -> list[Rows]:
    """See `TrainingSet.answers`."""
    rows = {record.id: row for row, record in enumerate(records)}
    group = np.zeros(len(records), dtype=np.int64) if groups is None else groups
    total = len(gallery.index.records)
    # Ask for so many more that enough are left when the others are dropped.
    depth = min(total, round(2.5 * (count + 1) * total / len(records)))
    found = [[rows[name] for name in ids if name in rows] for ids, _ in gallery.store.query(vectors, depth)]
    return [
        np.array([row for row in answer if row != own and group[row] == group[own]][:count], dtype=np.int64)
        for own, answer in enumerate(found)
    ]


def _saver(recipe: Recipe, out: Path) -> Callable[[str, Validation], None]:
    """Writes the best checkpoint and the last one, each with the weight and temperature that its validation chose."""

    def save(which: str, validation: Validation) -> None:
        recipe.reranker.weight = validation.extra["weight"]
        recipe.reranker.temperature = validation.extra["temperature"]
        path = out if which == "best" else last_beside(out)
        if isinstance(recipe, JointRecipe):
            recipe.save(path)
        else:
            save_checkpoint(path, recipe.checkpoint())

    return save


def _identity(config: Config, gallery: Gallery, records: Sequence[ImageRecord]) -> str:
    """Equal for runs that would learn and keep the same: settings, descriptors, pictures and labels."""
    settings = config.train_rerank.model_dump(mode="json", exclude={"out", "save_every", "trackers"})
    top = getattr(config.rerank, config.train_rerank.reranker).top
    pictures = [(record.id, record.label, record.sha256, record.bbox) for record in records]
    text = json.dumps([settings, top, config.seed, gallery.index.card.fingerprint, pictures])
    return hashlib.sha256(text.encode()).hexdigest()
