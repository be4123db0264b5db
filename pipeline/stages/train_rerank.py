"""`train-rerank`: trains a reranker on the store's candidates.

Between extract and search, for rerankers with weights. Labelled images of the index are anchors; their candidates come
from the store; a held-out part chooses the epoch and the fusion weight.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.config import Config
from pipeline.errors import RelookError, unknown_name
from pipeline.rerank.checkpoints import save_checkpoint
from pipeline.train import (
    RECIPES,
    DryRun,
    JointRecipe,
    Partition,
    Recipe,
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
from pipeline.workflow.training.training_result import TrainingResult
from pipeline.workflow.training.training_run import last_beside, run_training
from pipeline.workflow.training.training_set import labelled_images, make_training_set

# mAP in percent above which re-ranking has hardly a query left to improve.
_SATURATED = 99.9


@dataclass(frozen=True, kw_only=True)
class TrainRerankResult(TrainingResult):
    """The result of a training, with the number of its anchors.

    `warning` says that the checkpoint changes no ranking, or that the validation cannot show a gain; "" otherwise.
    """

    anchors: int
    warning: str = ""


def train_rerank(config: Config, reporter: Reporter | None = None) -> TrainRerankResult:
    """Train the reranker `train_rerank.reranker` on the index.

    Raises:
        UsageError: the reranker does not exist or is not trained.
        MiningError: the labels give no triplets.
        LockedError: another training writes the same checkpoint.
        RelookError: the index lacks what the reranker reads, or too few labelled images to hold any out.
    """
    settings = config.train_rerank
    out = settings.out or default_checkpoint(config.index, settings.reranker)
    with _set_up(config) as setup:
        gallery, records, recipe = setup.gallery, setup.records, setup.recipe
        held_out = [records[row] for row in setup.held_out]
        among = [records[row] for row in setup.trained] if settings.labels == "groups" else []
        validator = RerankerValidator(gallery, held_out, settings.reranker, recipe, config, among)
        trained = run_training(
            recipe.task,
            settings,
            validator,
            _saver(recipe, out),
            out=out,
            identity=_identity(config, gallery, records),
            seed=config.seed,
            device=setup.device,
            reporter=reporter or Silent(),
        )
    warning = usefulness(trained.best.metrics)
    if warning:
        logger.warning("%s: %s", out, warning)
    return TrainRerankResult.of(
        trained,
        out,
        anchors=recipe.anchors,
        validation_queries=validator.count,
        weights=gallery.index.card.weights,
        warning=warning,
    )


def usefulness(best: Mapping[str, float]) -> str:
    """Why a checkpoint with these validation metrics is useless; "" if it is useful.

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
    with _set_up(config) as setup:
        return dry_run(setup.recipe.task, config.train_rerank, config.seed, setup.device)


@dataclass(frozen=True)
class _Setup:
    """What a training needs before its first step."""

    gallery: Gallery
    records: list[ImageRecord]
    trained: Rows
    held_out: Rows
    recipe: Recipe
    device: torch.device


@contextmanager
def _set_up(config: Config) -> Iterator[_Setup]:
    """Within the block the processes of torchrun, if there are several, form a process group."""
    settings = config.train_rerank
    if settings.reranker not in RECIPES:
        raise unknown_name("trainable reranker", settings.reranker, RECIPES)
    if config.rerank.locals_from is not None:
        raise RelookError("rerank.locals_from: training reads one index alone; train on the one that it names")
    with process_group(torch.device(choose_device(config))) as device:
        gallery = open_gallery(config, partial="error")
        records, vectors, parts = _hold_out(config, gallery)
        photos, groups = index_photos(gallery, config), settings.labels == "groups"
        training_set = make_training_set(gallery, records, vectors, parts.train, photos, groups)
        recipe = RECIPES[settings.reranker](training_set, settings, config.seed, str(device))
        yield _Setup(gallery, records, parts.train, parts.validate, recipe, device)


def _hold_out(config: Config, gallery: Gallery) -> tuple[list[ImageRecord], FloatArray, Partition]:
    """The images of the split, their global descriptors [N, D], and which of them are held out."""
    settings = config.train_rerank
    records, labels, vectors = labelled_images(gallery, settings.split, settings.labels == "groups")
    if settings.hold_out == "labels":
        return records, vectors, hold_out_labels(labels, settings.validation, config.seed)
    return records, vectors, hold_out_sessions(labels, vectors, settings.validation, config.seed)


def _saver(recipe: Recipe, out: Path) -> Callable[[str, Validation], None]:
    """A function that writes the best or the last checkpoint, with the weight and temperature of its validation."""

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
    """Equal for runs with the same result: settings, descriptors, images and labels."""
    settings = config.train_rerank.model_dump(mode="json", exclude={"out", "save_every", "trackers"})
    top = getattr(config.rerank, config.train_rerank.reranker).top
    pictures = [(record.id, record.label, record.sha256, record.bbox) for record in records]
    text = json.dumps([settings, top, config.seed, gallery.index.card.fingerprint, pictures])
    return hashlib.sha256(text.encode()).hexdigest()
