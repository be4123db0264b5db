"""What a training reads of an index: its images with their labels, and the store's candidates of each.

Shared by `train-rerank` and `train-detector`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.errors import RelookError
from pipeline.train import Photos, TrainingSet
from pipeline.train.loop.task import Rows
from pipeline.types import FloatArray, ImageRecord
from pipeline.workflow.gallery import Gallery

# Nearest images whose group says nothing where it is another one, and at most which share of all: as `adapt` has it.
_NEAREST, _SHARE = 30, 0.1


def labelled_images(
    gallery: Gallery, split: str | None, groups: bool = False
) -> tuple[list[ImageRecord], list[str], FloatArray]:
    """The N images of a split (None: of all), their labels, and their global descriptors [N, D].

    Args:
        gallery: opened.
        split: of the image manifest.
        groups: labels are groups: an image without one may show anything, so it is left out.

    Raises:
        RelookError: none of them has a label.
    """
    records = [
        record
        for record in gallery.index.records.values()
        if split in (None, record.split) and (record.label or not groups)
    ]
    labels = [record.label for record in records]
    if not any(labels):
        raise RelookError("no image of the index has a label; extract with a manifest that has a column label")
    return records, labels, gallery.globals([record.id for record in records])


def make_training_set(
    gallery: Gallery,
    records: Sequence[ImageRecord],
    vectors: FloatArray,
    rows: Rows,
    photos: Photos | None = None,
    groups: bool = False,
) -> TrainingSet:
    """The training set of those `rows` of the N records, whose global descriptors are [N, D] `vectors`.

    Where labels are `groups`, the nearest images of other groups are no candidates: they may show the same thing.
    """
    chosen = [records[row] for row in rows]
    spared = min(_NEAREST, round(_SHARE * len(chosen))) if groups else 0
    return TrainingSet(
        ids=[record.id for record in chosen],
        labels=[record.label for record in chosen],
        vectors=vectors[rows],
        candidates=lambda count, halves: _candidates(gallery, chosen, vectors[rows], count, halves, spared),
        source=gallery,
        card=gallery.index.card,
        all_ids=[record.id for record in records],
        all_labels=[record.label for record in records],
        all_vectors=vectors,
        photos=photos,
    )


def _candidates(
    gallery: Gallery,
    records: Sequence[ImageRecord],
    vectors: FloatArray,
    count: int,
    halves: Rows | None,
    spared: int,
) -> list[Rows]:
    """See `TrainingSet.candidates`; those of other labels among the first `spared` are left out."""
    rows = {record.id: row for row, record in enumerate(records)}
    half = np.zeros(len(records), dtype=np.int64) if halves is None else halves
    names = np.array([record.label for record in records])
    total = len(gallery.index.records)
    # Request more, so that enough are left when images outside of the training set are dropped.
    depth = min(total, round(2.5 * (count + spared + 1) * total / len(records)))
    found = []
    for own, (ids, _) in enumerate(gallery.store.query(vectors, depth)):
        others = np.array([rows[name] for name in ids if name in rows and rows[name] != own], dtype=np.int64)
        kept = (np.arange(len(others)) >= spared) | (names[others] == names[own])
        found.append(others[kept & (half[others] == half[own])][:count])
    return found
