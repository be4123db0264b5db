"""`train-global`: trains a describer's global descriptor on labelled photos.

Before extract: it writes a checkpoint for `describe.checkpoint`. Photos and labels come from a catalog; a held-out
part, or a validation split, chooses the epoch.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.catalog import Catalog, load_catalog
from pipeline.config import Config, DescribeConfig
from pipeline.describe.checkpoints import save_describer
from pipeline.describe.describer import NetworkDescriber
from pipeline.describe.network import DescriberNetwork, network_to_train
from pipeline.describe.registry import resolved
from pipeline.errors import RelookError
from pipeline.files import Place
from pipeline.train import DryRun, Validation, dry_run
from pipeline.train.data.views import AugmentedViews, CachedViews, Views, views_key
from pipeline.train.global_descriptor.local_heads import LocalHeads
from pipeline.train.global_descriptor.losses import set_prototypes
from pipeline.train.global_descriptor.task import GlobalTask
from pipeline.train.global_descriptor.trunk import Trunk, split_backbone
from pipeline.train.init.global_head import mean_descriptors, start_head
from pipeline.train.loop.distributed import process_group, rank
from pipeline.workflow.model_loading import choose_device, read_options
from pipeline.workflow.progress import Reporter, Silent
from pipeline.workflow.training.global_validation import GlobalValidator
from pipeline.workflow.training.photo_selection import TrainingPhotos, choose_photos
from pipeline.workflow.training.training_result import TrainingResult
from pipeline.workflow.training.training_run import last_beside, run_training

# Parts of a ResNet before the map that DELG's local heads read: the stem and three stages.
_LOCAL_PARTS = 4


@dataclass(frozen=True, kw_only=True)
class TrainGlobalResult(TrainingResult):
    """The result of a training, with the numbers of photos and labels trained on, and of unreadable photos."""

    photos: int
    labels: int
    failed: int


def train_global(config: Config, images: str, reporter: Reporter | None = None) -> TrainGlobalResult:
    """Train the describer `describe.name` on labelled photos.

    Args:
        config: `describe`, `train_global`, `catalog` and `seed` are read.
        images: a folder, a manifest, or NAME:FOLDER of a data set; with labels.
        reporter: of the progress.

    Raises:
        UsageError: the describer does not exist.
        RelookError: too few labels, missing weights, or no photo can be read.
    """
    settings = config.train_global
    out = settings.out or Path("describers") / f"{config.describe.name}.safetensors"
    with _set_up(config, images, out, settings.augment.views, reporter or Silent()) as setup:
        photos, network = setup.photos, setup.network
        validator = GlobalValidator(setup.describer, setup.catalog, photos.validate, config)

        def save(which: str, validation: Validation) -> None:
            path = out if which == "best" else last_beside(out)
            save_describer(path, config.describe.name, network, _provenance(config, photos, validation))

        trained = run_training(
            setup.task,
            settings,
            validator,
            save,
            out=out,
            identity=_identity(config, setup.weights, setup.catalog, photos),
            seed=config.seed,
            device=setup.device,
            reporter=reporter or Silent(),
        )
    return TrainGlobalResult.of(
        trained,
        out,
        photos=len(photos.train),
        labels=len(photos.names),
        failed=len(photos.failed),
        validation_queries=validator.count,
        weights=setup.weights,
    )


def dry_run_global(config: Config, images: str, reporter: Reporter | None = None) -> DryRun:
    """What `train_global` would cost, by a few of its steps; nothing is written. Raises as it does.

    Views are not cached: where `augment.views` is set, a step of the real training saves the frozen parts.
    """
    with _set_up(config, images, Path(), None, reporter or Silent()) as setup:
        return dry_run(setup.task, config.train_global, config.seed, setup.device)


@dataclass(frozen=True)
class _Setup:
    """What a training needs before its first step; `weights` names those that it starts from."""

    catalog: Catalog
    photos: TrainingPhotos
    network: DescriberNetwork
    weights: str
    describer: NetworkDescriber
    task: GlobalTask
    device: torch.device


@contextmanager
def _set_up(config: Config, images: str, out: Path, cached_views: int | None, reporter: Reporter) -> Iterator[_Setup]:
    """Within the block the processes of torchrun, if there are several, form a process group.

    The cache of views is removed when the block ends without an error, unless `augment.views_folder` keeps it.
    """
    settings = config.train_global
    catalog = load_catalog(images, **config.catalog.options)
    describe = _describe_config(config)
    with process_group(torch.device(choose_device(config))) as device:
        network, new_head = network_to_train(describe, settings.dimension, settings.start, config.seed)
        weights = network.backbone.weights
        photos = choose_photos(catalog, config, reporter if rank() == 0 else Silent())
        describer = NetworkDescriber(network, describe, device)
        frozen, parts = split_backbone(network, settings.freeze)
        network.head.requires_grad_(True)
        trunk = Trunk(parts, network.head, settings.batch_norm == "learnt", settings.checkpointing)
        augmented = _augmented_views(config, catalog, photos, describer, frozen)
        folder = None
        views: Views = augmented
        if cached_views is not None:
            files = [catalog.file(record) for record in photos.train]
            key = views_key(frozen, settings.augment, _contents(files), describer.input.reads)
            folder = _views_folder(config, out, key)
            cached = CachedViews(augmented, len(files), cached_views, folder, device)
            _fill(cached, len(files), config, reporter)
            views = cached
        task = _task(network, new_head, describer, trunk, views, photos, config)
        yield _Setup(catalog, photos, network, weights, describer, task, device)
        if folder is not None and settings.augment.views_folder is None and rank() == 0:
            shutil.rmtree(folder.parent)


def _augmented_views(
    config: Config, catalog: Catalog, photos: TrainingPhotos, describer: NetworkDescriber, frozen: nn.Sequential
) -> AugmentedViews:
    limits = read_options(config)
    files = [catalog.file(record) for record in photos.train]

    def read(number: int) -> Any:
        return limits.read(files[number], icc=describer.icc).pixels

    return AugmentedViews(read, config.train_global.augment, describer.input.as_read, frozen)


def _task(
    network: DescriberNetwork,
    new_head: bool,
    describer: NetworkDescriber,
    trunk: Trunk,
    views: Views,
    photos: TrainingPhotos,
    config: Config,
) -> GlobalTask:
    """The task before its first step."""
    settings = config.train_global
    directions = None
    if settings.head_start == "whitened":
        fc = network.head.fc if new_head else None
        directions = (
            mean_descriptors(trunk, views, photos.labels)
            if fc is None
            else start_head(trunk, fc, views, photos.labels, settings.shrinkage)
        )
    heads = _local_heads(network, config, len(photos.names))
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        ids = [record.id for record in photos.train]
        task = GlobalTask(trunk, views, ids, photos.labels, describer.card.dimension, settings, heads)
        if directions is not None:
            set_prototypes(task.classification, directions)
    return task


def _describe_config(config: Config) -> DescribeConfig:
    """The describer as it is trained and validated: one scale, the global descriptor alone, no projection after it."""
    options = config.describe.model_dump(exclude={"name", "checkpoint", "keypoints"}, exclude_unset=True)
    one = {"scales": (1.0,), "whiten": None}
    options["globals"] = {**options.get("globals", {}), **one}
    options["locals"] = {**options.get("locals", {}), "count": 0}
    options["maps"] = {**options.get("maps", {}), "levels": ()}
    return resolved(config.describe.name, config.describe.checkpoint, options)


def _local_heads(network: DescriberNetwork, config: Config, classes: int) -> LocalHeads | None:
    if network.attention is None or network.reduce is None:
        return None
    place = _LOCAL_PARTS - config.train_global.freeze
    if place < 0:
        raise RelookError(
            f"train_global.freeze = {config.train_global.freeze}: the local heads of {config.describe.name} read the "
            f"map after {_LOCAL_PARTS} parts; give at most {_LOCAL_PARTS}"
        )
    return LocalHeads(network.attention, network.reduce, classes, place, config.train_global.locals)


def _views_folder(config: Config, out: Path, key: str) -> Path:
    shared = config.train_global.augment.views_folder
    return shared / key if shared is not None else out.with_name(f"{out.stem}-views") / key


def _fill(views: CachedViews, photos: int, config: Config, reporter: Reporter) -> None:
    """Compute missing views, with a progress bar in the first process."""
    first = reporter if rank() == 0 else Silent()
    with first.bar("views", len(views.missing) * photos, "photos") as bar:
        views.fill(bar.advance, read_options(config).models)


def _contents(files: Sequence[Place]) -> list[str]:
    """Path, size and time of files: equal for the same photos in two runs, without reading them."""
    facts = [file.stat() for file in files]
    return [f"{file} {fact.st_size} {fact.st_mtime_ns}" for file, fact in zip(files, facts, strict=True)]


def _provenance(config: Config, photos: TrainingPhotos, validation: Validation) -> dict[str, Any]:
    """How a checkpoint was made, for its header."""
    settings = config.train_global.model_dump(mode="json", exclude={"out"})
    return {
        "settings": settings,
        "seed": config.seed,
        "photos": len(photos.train),
        "labels": len(photos.names),
        "validation": validation.metrics,
    }


def _identity(config: Config, weights: str, catalog: Catalog, photos: TrainingPhotos) -> str:
    """Equal for runs with the same result: settings, initial weights and photos."""
    settings = config.train_global.model_dump(mode="json", exclude={"out"})
    described = config.describe.model_dump(mode="json", exclude={"checkpoint", "keypoints"})
    files = _contents([catalog.file(record) for record in photos.train])
    text = json.dumps([settings, described, weights, config.seed, files, photos.labels.tolist()])
    return hashlib.sha256(text.encode()).hexdigest()
