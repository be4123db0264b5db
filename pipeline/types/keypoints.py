"""What made keypoints, and how those of two images match.

Made by `describe/keypoints`, kept by the index, matched and verified by `rerank/matching`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.types.descriptors import FloatArray, Keypoints, PreparedKeypoints
from pipeline.types.images import Box


@dataclass(frozen=True)
class KeypointsCard:
    """What made keypoints: all that must be equal for two sets of them to be matched.

    Attributes:
        kind: the extractor's registry name, such as "xfeat".
        weights: "sha256:..." of the weights; "" where there are none.
        settings: size of the picture, count, threshold and the like; plain JSON values.
        dimension: d of the descriptors.
    """

    kind: str
    weights: str
    settings: Mapping[str, Any]
    dimension: int

    def to_json(self) -> dict[str, Any]:
        """The card as plain JSON values; `KeypointsCard(**values)` is the inverse."""
        return {
            "kind": self.kind,
            "weights": self.weights,
            "settings": dict(self.settings),
            "dimension": self.dimension,
        }

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits; equal exactly when everything on the card is."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class KeypointExtractor(Protocol):
    """Finds keypoints in pictures.

    `prepare` runs on a reader's thread, `extract` on the model's.
    """

    @property
    def card(self) -> KeypointsCard:
        """What makes the keypoints."""

    def prepare(self, image: npt.NDArray[np.uint8], bbox: Box | None = None) -> PreparedKeypoints:
        """Resize an upright RGB picture [H, W, 3] uint8 (or the `bbox` of it) to what the detector reads."""

    def extract(self, batch: Sequence[PreparedKeypoints]) -> list[Keypoints]:
        """The keypoints of pictures of any shapes, in order; an image may have none."""


@dataclass(frozen=True)
class Matches:
    """Which keypoints of two images match; each is in one match at most.

    Attributes:
        rows: [k, 2] int64, the number of the keypoint in the first and in the second image.
        scores: [k] float32 in [0, 1], the matcher's confidence.
    """

    rows: npt.NDArray[np.int64]
    scores: FloatArray

    def __len__(self) -> int:
        return len(self.rows)


class Matcher(Protocol):
    """Matches the keypoints of pairs of images."""

    def check(self, card: KeypointsCard) -> None:
        """Raises RelookError when it cannot match keypoints of this card, and says what differs."""

    def match(self, pairs: Sequence[tuple[Keypoints, Keypoints]]) -> list[Matches]:
        """The matches of each pair, in order. Images without keypoints have none.

        Batches are made inside: pairs of like sizes together, padded where they differ.
        """
