"""`train-detector`: trains AMES's detector, which chooses local descriptors.

Between an index of whole maps and `extract`: it writes a file for `describe.locals.detector`. Labelled images of the
index are anchors; hard negatives are the store's own candidates; held-out labels choose the epoch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.config import Config
from pipeline.describe.detector import Detector
from pipeline.train import DryRun, Validation, dry_run, hold_out_labels
from pipeline.train.detector.task import DetectorTask, start_as_cells, start_as_published, stored_maps
from pipeline.train.loop.distributed import process_group
from pipeline.train.rerankers.triplet_task import mine_triplets
from pipeline.types import ImageRecord
from pipeline.workflow.gallery import Gallery, open_gallery
from pipeline.workflow.model_loading import choose_device
from pipeline.workflow.progress import Reporter, Silent
from pipeline.workflow.training.detector_validation import DetectorValidator
from pipeline.workflow.training.training_result import TrainingResult
from pipeline.workflow.training.training_run import last_beside, run_training
from pipeline.workflow.training.training_set import labelled_images, make_training_set


@dataclass(frozen=True, kw_only=True)
class TrainDetectorResult(TrainingResult):
    """The result of a training, with the number of its anchors."""

    anchors: int


def train_detector(config: Config, reporter: Reporter | None = None) -> TrainDetectorResult:
    """Train a detector on the maps of the index.

    Raises:
        MiningError: the labels give no triplets.
        LockedError: another training writes the same checkpoint.
        RelookError: the index has no whole maps, or too few labels to hold any out.
    """
    settings = config.train_detector
    with _set_up(config) as setup:
        gallery, detector = setup.gallery, setup.task.detector
        card = gallery.index.card
        out = settings.out or Path("describers") / f"{card.name}-detector.safetensors"

        def save(which: str, validation: Validation) -> None:
            provenance = {"settings": _settings(config), "seed": config.seed, "validation": validation.metrics}
            detector.save(out if which == "best" else last_beside(out), card=card.to_json(), **provenance)

        trained = run_training(
            setup.task,
            settings,
            setup.validator,
            save,
            out=out,
            identity=_identity(config, gallery, setup.records),
            seed=config.seed,
            device=setup.device,
            reporter=reporter or Silent(),
        )
    return TrainDetectorResult.of(
        trained,
        out,
        anchors=len(setup.task.triplets.anchors),
        validation_queries=setup.validator.count,
        weights=card.weights,
    )


def dry_run_detector(config: Config) -> DryRun:
    """What `train_detector` would cost, by a few of its steps; nothing is written. Raises as it does."""
    with _set_up(config) as setup:
        return dry_run(setup.task, config.train_detector, config.seed, setup.device)


@dataclass(frozen=True)
class _Setup:
    """What a training needs before its first step."""

    gallery: Gallery
    records: list[ImageRecord]
    task: DetectorTask
    validator: DetectorValidator
    device: torch.device


@contextmanager
def _set_up(config: Config) -> Iterator[_Setup]:
    """Within the block the processes of torchrun, if there are several, form a process group."""
    settings = config.train_detector
    with process_group(torch.device(choose_device(config))) as device:
        gallery = open_gallery(config, partial="error")
        records, labels, vectors = labelled_images(gallery, settings.split)
        parts = hold_out_labels(labels, settings.validation, config.seed)
        training_set = make_training_set(gallery, records, vectors, parts.train)
        card = gallery.index.card
        stored = stored_maps(gallery, training_set.ids, card)
        detector = _start(card.local_dimension, config).to(device)
        triplets = mine_triplets(training_set, settings.candidates)
        held_out = [records[row] for row in parts.validate]
        maps = stored_maps(gallery, [record.id for record in held_out], card)
        validator = DetectorValidator(detector, maps, held_out, vectors[parts.validate])
        task = DetectorTask(detector, stored, triplets, training_set.ids, settings)
        yield _Setup(gallery, records, task, validator, device)


def _start(channels: int, config: Config) -> Detector:
    torch.manual_seed(config.seed)
    detector = Detector(channels)
    if config.train_detector.start == "paper":
        start_as_published(detector)
    else:
        start_as_cells(detector)
    return detector


def _settings(config: Config) -> dict[str, Any]:
    """The settings that change the result."""
    return config.train_detector.model_dump(mode="json", exclude={"out", "save_every", "trackers"})


def _identity(config: Config, gallery: Gallery, records: list[ImageRecord]) -> str:
    """Equal for runs with the same result: settings, maps, images and labels."""
    pictures = [(record.id, record.label, record.sha256, record.bbox) for record in records]
    text = json.dumps([_settings(config), config.seed, gallery.index.card.fingerprint, pictures])
    return hashlib.sha256(text.encode()).hexdigest()
