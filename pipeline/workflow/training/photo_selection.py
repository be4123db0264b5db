"""Which photos `train-global` trains on, and which it validates on.

Every photo is decoded once before the first step, so that unreadable ones are counted at once and not in the middle of
a training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.catalog import Catalog
from pipeline.config import Config
from pipeline.describe.prefetch import prefetch
from pipeline.errors import ImageError, RelookError
from pipeline.train.data.hold_out import hold_out_labels, rows_by_label
from pipeline.train.loop.distributed import broadcast_from_first, rank
from pipeline.train.loop.task import Rows
from pipeline.types import ImageRecord
from pipeline.workflow.model_loading import read_options
from pipeline.workflow.progress import Reporter, logger

# Failures that are named one by one; more are only counted.
_NAMED = 5


@dataclass(frozen=True)
class TrainingPhotos:
    """Photos of a catalog.

    Attributes:
        train: to train on, each with a label.
        labels: [N] number of each one's label in `names`.
        names: the labels, sorted.
        validate: to validate on; labels may be "".
        failed: (path, reason) of photos that cannot be read.
    """

    train: list[ImageRecord]
    labels: Rows
    names: list[str]
    validate: list[ImageRecord]
    failed: list[tuple[str, str]]


def choose_photos(catalog: Catalog, config: Config, reporter: Reporter) -> TrainingPhotos:
    """Divide a catalog as `train_global` says, without photos that cannot be read.

    Raises:
        RelookError: fewer than two labels are left to train on, or the split does not exist.
    """
    settings = config.train_global
    train = list(catalog.select(settings.split))
    validate: list[ImageRecord] = []
    if settings.validation_split is not None:
        validate = list(catalog.select(settings.validation_split))
        there = {record.id for record in validate}
        train = [record for record in train if record.id not in there]
    elif settings.validation:
        train, validate = _held_out(train, config)
    train = [record for record in train if record.label]
    refused = [(path, reason) for _, path, reason in catalog.failed]
    failed = _unreadable(catalog, [*train, *validate], config, reporter)
    train, validate = ([r for r in records if r.path not in failed] for records in (train, validate))
    names = sorted({record.label for record in train})
    if len(names) < 2:
        raise RelookError(
            f"train-global needs photos of at least two labels, and there are {len(names)}; give a manifest with a "
            "column label, or --set catalog.labels=folder"
        )
    number = {name: row for row, name in enumerate(names)}
    labels = np.array([number[record.label] for record in train], dtype=np.int64)
    return TrainingPhotos(train, labels, names, validate, [*refused, *sorted(failed.items())])


def _held_out(records: list[ImageRecord], config: Config) -> tuple[list[ImageRecord], list[ImageRecord]]:
    settings = config.train_global
    labels = [record.label for record in records]
    if settings.hold_out == "labels":
        parts = hold_out_labels(labels, settings.validation, config.seed)
        return [records[row] for row in parts.train], [records[row] for row in parts.validate]
    out = set(_some_of_each(labels, settings.validation, config.seed))
    train = [record for row, record in enumerate(records) if row not in out]
    return train, [records[row] for row in sorted(out)]


def _some_of_each(labels: Sequence[str], fraction: float, seed: int) -> list[int]:
    """Rows of about `fraction` of each label's photos, at random; a label gives two or more and keeps two, or none."""
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for label, rows in rows_by_label(labels).items():
        count = round(fraction * len(rows))
        if not label or (count >= 2 and len(rows) - count >= 2):
            chosen += rng.permutation(rows)[:count].tolist()
    return chosen


def _unreadable(catalog: Catalog, records: Sequence[ImageRecord], config: Config, reporter: Reporter) -> dict[str, str]:
    """Reasons by path of the photos that cannot be read; the first process reads them, all get the result."""
    failed: dict[str, str] = {}
    limits = read_options(config)

    def read(record: ImageRecord) -> tuple[str, str] | None:
        try:
            limits.read(catalog.file(record), icc="ignore")  # colours do not matter here
        except ImageError as error:
            return record.path, error.reason
        return None

    def timed_out(record: ImageRecord) -> tuple[str, str] | None:
        return record.path, limits.too_slow

    if rank() == 0:
        with reporter.bar("read", len(records), "photos") as bar:
            for found in prefetch(
                read, records, limits.workers, 4 * limits.workers, patience=limits.patience(timed_out)
            ):
                bar.advance()
                if found is not None:
                    failed[found[0]] = found[1]
        for path, reason in sorted(failed.items())[:_NAMED]:
            logger.warning("%s: %s; left out", path, reason)
        if len(failed) > _NAMED:
            logger.warning("%d photos cannot be read and are left out", len(failed))
    result: dict[str, str] = broadcast_from_first(failed)
    return result


def validation_sample(records: Sequence[ImageRecord], count: int, seed: int) -> list[ImageRecord]:
    """At most `count` photos, whole labels at random, so that every photo keeps its positives."""
    if len(records) <= count:
        return list(records)
    sizes = Counter(record.label for record in records)
    chosen: set[str] = set()
    total = 0
    for name in np.random.default_rng(seed).permutation(sorted(sizes)).tolist():
        if total + sizes[name] <= count:
            chosen.add(name)
            total += sizes[name]
    return [record for record in records if record.label in chosen]
