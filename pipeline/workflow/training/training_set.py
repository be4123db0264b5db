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


def labelled_images(gallery: Gallery, split: str | None) -> tuple[list[ImageRecord], list[str], FloatArray]:
    """The N images of a split (None: of all), their labels, and their global descriptors [N, D].

    Raises:
        RelookError: none of them has a label.
    """
    records = [record for record in gallery.index.records.values() if split in (None, record.split)]
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
) -> TrainingSet:
    """The training set of those `rows` of the N records, whose global descriptors are [N, D] `vectors`."""
    chosen = [records[row] for row in rows]
    return TrainingSet(
        ids=[record.id for record in chosen],
        labels=[record.label for record in chosen],
        vectors=vectors[rows],
        candidates=lambda count, groups: _candidates(gallery, chosen, vectors[rows], count, groups),
        source=gallery,
        card=gallery.index.card,
        all_ids=[record.id for record in records],
        all_labels=[record.label for record in records],
        all_vectors=vectors,
        photos=photos,
    )


def _candidates(
    gallery: Gallery, records: Sequence[ImageRecord], vectors: FloatArray, count: int, groups: Rows | None
) -> list[Rows]:
    """See `TrainingSet.candidates`."""
    rows = {record.id: row for row, record in enumerate(records)}
    group = np.zeros(len(records), dtype=np.int64) if groups is None else groups
    total = len(gallery.index.records)
    # Request more, so that enough are left when images outside of the training set are dropped.
    depth = min(total, round(2.5 * (count + 1) * total / len(records)))
    found = [[rows[name] for name in ids if name in rows] for ids, _ in gallery.store.query(vectors, depth)]
    return [
        np.array([row for row in ranked if row != own and group[row] == group[own]][:count], dtype=np.int64)
        for own, ranked in enumerate(found)
    ]
