"""Validation of AMES's detector while it is trained: mAP of held-out images described by their weighted cells.

Called by `train-detector` after every epoch. As the authors' script, which ranks by the same mean of cells.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.describe.detector import Detector
from pipeline.errors import RelookError
from pipeline.train import Validation
from pipeline.train.data.stored_locals import StoredLocals
from pipeline.train.detector.task import describe_stored
from pipeline.types import FloatArray, ImageRecord
from pipeline.workflow.training.held_out_retrieval import HeldOutRetrieval


class DetectorValidator:
    """Validates a detector by the mAP of held-out images that query each other, described by their weighted cells.

    Args:
        detector: is trained.
        stored: the maps of the held-out images.
        records: of these images.
        vectors: [N, D] their global descriptors in the index, for comparison.

    Raises:
        RelookError: no two of the images have the same label.
    """

    def __init__(
        self, detector: Detector, stored: StoredLocals, records: Sequence[ImageRecord], vectors: FloatArray
    ) -> None:
        self._detector, self._stored, self._images = detector, stored, len(records)
        self._retrieval = HeldOutRetrieval([record.id for record in records], [record.label for record in records])
        if not self.count:
            raise RelookError("too few labels to hold some out for validation: it needs four with two images each")
        self._before = {f"global {name}": value for name, value in self._retrieval.scores(vectors).items()}

    @property
    def count(self) -> int:
        """The number of queries."""
        return len(self._retrieval.queries)

    def __call__(self) -> Validation:
        """Score the detector as it is."""
        scores = self._retrieval.scores(describe_stored(self._detector, self._stored, self._images))
        return Validation(scores["mAP"], {**scores, **self._before})
