"""Validation of a describer while it is trained: mAP of held-out photos that query each other.

Called by `train-global` after every epoch. Photos are decoded and resized once, and described at one scale each time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.catalog import Catalog
from pipeline.config import Config
from pipeline.describe import Failed, prepare_stream
from pipeline.describe.describer import NetworkDescriber
from pipeline.errors import RelookError
from pipeline.train import Validation
from pipeline.train.loop.distributed import rank
from pipeline.types import ImageRecord, Prepared
from pipeline.workflow.model_loading import read_options
from pipeline.workflow.training.held_out_retrieval import HeldOutRetrieval
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
        ids: list[str] = []
        labels: list[str] = []
        self._retrieval = HeldOutRetrieval(ids, labels)
        if rank() != 0 or not records:
            return
        sample = validation_sample(records, config.train_global.validation_photos, config.seed)
        for batch in prepare_stream(describer, sample, catalog.file, read_options(config)):
            if isinstance(batch, Failed):
                continue  # removed since it was read before: one photo less to validate on
            self._batches.append([item.prepared for item in batch])
            ids += [item.record.id for item in batch]
            labels += [item.record.label for item in batch]
        self._retrieval = HeldOutRetrieval(ids, labels)
        if not self.count:
            raise RelookError(
                "no two validation photos have the same label: train_global.hold_out = labels needs four labels with "
                "two photos each; train_global.validation=0 trains without validation"
            )

    @property
    def count(self) -> int:
        """The number of queries."""
        return len(self._retrieval.queries)

    def __call__(self) -> Validation:
        """Describe and score; without photos there is no score."""
        if not self.count:
            return Validation(None, {})
        vectors = np.stack([d.vector for batch in self._batches for d in self._describer.describe(batch)])
        scores = self._retrieval.scores(vectors)
        return Validation(scores["mAP"], scores)
