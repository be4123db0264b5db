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


# The kind of "keypoints" that is the picture itself.
PICTURE = "picture"


@dataclass(frozen=True)
class GreyPicture(Keypoints):
    """An image for dense matchers, which find their points themselves: its pixels, and no keypoints.

    Attributes:
        pixels: [h, w] uint8, grey: the `region`, resized.
    """

    pixels: npt.NDArray[np.uint8]

    def first(self, count: int) -> GreyPicture:
        """Itself: there are no keypoints to choose from."""
        return self


@dataclass(frozen=True)
class Matches:
    """Which keypoints of two images match; each is in one match at most.

    Attributes:
        rows: [k, 2] int64, the number of the keypoint in the first and in the second image; of a dense matcher, that
            of the match.
        scores: [k] float32 in [0, 1], the matcher's confidence.
        xy: of a dense matcher, [k, 2] float32 each: where they lie in the first and in the second image, in pixels of
            the upright originals. None: at the keypoints.
    """

    rows: npt.NDArray[np.int64]
    scores: FloatArray
    xy: tuple[FloatArray, FloatArray] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def strongest(self, count: int) -> Matches:
        """The `count` of the largest scores; all of them where there are no more."""
        if len(self) <= count:
            return self
        rows = np.argsort(-self.scores, kind="stable")[:count]
        xy = None if self.xy is None else (self.xy[0][rows], self.xy[1][rows])
        return Matches(self.rows[rows], self.scores[rows], xy)

    def places(self, first: Keypoints, second: Keypoints) -> tuple[FloatArray, FloatArray]:
        """Where they lie in both images [k, 2], in pixels of the upright originals."""
        return (first.xy[self.rows[:, 0]], second.xy[self.rows[:, 1]]) if self.xy is None else self.xy


class Matcher(Protocol):
    """Matches the keypoints of pairs of images."""

    def check(self, card: KeypointsCard) -> None:
        """Raises RelookError when it cannot match keypoints of this card, and says what differs."""

    def match(self, pairs: Sequence[tuple[Keypoints, Keypoints]]) -> list[Matches]:
        """The matches of each pair, in order. Images without keypoints have none.

        Batches are made inside: pairs of like sizes together, padded where they differ.
        """
