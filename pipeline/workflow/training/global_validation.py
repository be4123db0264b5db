"""Validation of a describer while it is trained: mAP of held-out photos that query each other.

Called by `train-global` after every epoch. Photos are decoded and resized once, and described at one scale each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from pipeline.catalog import Catalog
from pipeline.config import Config
from pipeline.describe import Failed, prepare_stream
from pipeline.describe.describer import NetworkDescriber
from pipeline.errors import RelookError
from pipeline.evaluate import by_labels
from pipeline.stores.exact.named_vectors import NamedVectors
from pipeline.train import Validation
from pipeline.train.loop.distributed import rank
from pipeline.types import FloatArray, ImageRecord, Prepared, Ranking
from pipeline.workflow.model_loading import read_options
from pipeline.workflow.training.photo_selection import validation_sample


class GlobalValidator:
    """Validates a describer, in the first process.

    Args:
        describer: shares its network with the training task.
        catalog: of the photos.
        records: to validate on; empty: nothing is validated, and the last epoch is the best.
        config: `train_global.validation_photos` and `seed` are read.

    Raises:
        RelookError: no two of the photos have the same label.
    """

    def __init__(
        self, describer: NetworkDescriber, catalog: Catalog, records: Sequence[ImageRecord], config: Config
    ) -> None:
        self._describer = describer
        self._batches: list[list[Prepared]] = []
        self._ids: list[str] = []
        self._labels: list[str] = []
        if rank() != 0 or not records:
            return
        sample = validation_sample(records, config.train_global.validation_photos, config.seed)
        for batch in prepare_stream(describer, sample, catalog.file, read_options(config)):
            if isinstance(batch, Failed):
                continue  # removed since it was read before: one photo less to validate on
            self._batches.append([item.prepared for item in batch])
            self._ids += [item.record.id for item in batch]
            self._labels += [item.record.label for item in batch]
        if not self._queries:
            raise RelookError(
                "no two validation photos have the same label: train_global.hold_out = labels needs four labels with "
                "two photos each; train_global.validation=0 trains without validation"
            )

    @property
    def count(self) -> int:
        """The number of queries."""
        return len(self._queries)

    def __call__(self) -> Validation:
        """Describe and score; without photos there is no score."""
        if not self._ids:
            return Validation(None, {})
        vectors = np.stack([d.vector for batch in self._batches for d in self._describer.describe(batch)])
        rankings = self._rankings(vectors)
        labels = [self._labels[row] for row in self._queries]
        itself = [{self._ids[row]} for row in self._queries]
        scores = by_labels(rankings, labels, dict(zip(self._ids, self._labels, strict=True)), itself)[0].summary()
        return Validation(scores["mAP"], {"mAP": scores["mAP"], "R@1": scores["R@1"]})

    @cached_property
    def _queries(self) -> list[int]:
        """Rows of the images whose label occurs twice."""
        counts = Counter(self._labels)
        return [row for row, label in enumerate(self._labels) if label and counts[label] > 1]

    def _rankings(self, vectors: FloatArray) -> list[Ranking]:
        """All other images by similarity to each query."""
        found = NamedVectors(self._ids, vectors).query(vectors[self._queries], len(self._ids))
        rankings = []
        for row, (ids, scores) in zip(self._queries, found, strict=True):
            others = [place for place, name in enumerate(ids) if name != self._ids[row]]
            rankings.append(Ranking(self._ids[row], [ids[place] for place in others], scores[others]))
        return rankings
