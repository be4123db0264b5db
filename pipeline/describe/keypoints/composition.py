"""A describer and an extractor of keypoints as one describer, and an extractor alone in the place of a describer.

So that one reading of a photo serves both, in the streams of extraction, of fitting and of queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.errors import RelookError
from pipeline.imaging import ColourRule, Pixels
from pipeline.types import (
    Box,
    Describer,
    Description,
    FittableDescriber,
    FloatArray,
    KeypointExtractor,
    Keypoints,
    ModelCard,
    Prepared,
    PreparedKeypoints,
)


def with_keypoints(describer: Describer, extractor: KeypointExtractor) -> FittableDescriber:
    """The same describer, whose descriptions have the `keypoints` of an extractor as well.

    Its card, its batches and the rest of its descriptions are those of `describer`. Where that has nothing to fit,
    neither has this.
    """
    return _Both(describer, extractor)


def keypoints_alone(extractor: KeypointExtractor, card: ModelCard) -> Describer:
    """An extractor in the place of the describer of `card`: its descriptions have an empty vector and `keypoints`.

    Photos are read in the colours of that describer; pictures of any shapes share a batch.
    """
    return _Alone(extractor, card)


@dataclass(frozen=True)
class _Output:
    """What `observe` returns: the describer's output, and the pictures whose keypoints are still to be found."""

    network: Any
    pictures: list[PreparedKeypoints]

    @property
    def bytes(self) -> int:
        """The memory that it takes."""
        return int(self.network.bytes + sum(picture.pixels.nbytes for picture in self.pictures))

    def on_cpu(self) -> _Output:
        """A copy outside the device's memory."""
        return _Output(self.network.on_cpu(), self.pictures)


class _Both:
    def __init__(self, describer: Describer, extractor: KeypointExtractor) -> None:
        self._describer: Any = describer
        self._extractor = extractor

    @property
    def card(self) -> ModelCard:
        card: ModelCard = self._describer.card
        return card

    @property
    def icc(self) -> ColourRule:
        icc: ColourRule = getattr(self._describer, "icc", "ignore")
        return icc

    @property
    def to_fit(self) -> tuple[str, ...]:
        return tuple(self._describer.to_fit)

    def prepare(self, image: Pixels, bbox: Box | None = None) -> Prepared:
        prepared: Prepared = self._describer.prepare(image, bbox)
        return replace(prepared, keypoints=self._extractor.prepare(image, bbox))

    def describe(self, batch: Sequence[Prepared]) -> list[Description]:
        return _joined(self._describer.describe(batch), self._extractor.extract(_pictures(batch)))

    def observe(self, batch: Sequence[Prepared]) -> _Output:
        return _Output(self._describer.observe(batch), _pictures(batch))

    def describe_output(self, output: _Output) -> list[Description]:
        return _joined(self._describer.describe_output(output.network), self._extractor.extract(output.pictures))

    def fit(self, batches: Iterable[Sequence[Prepared]]) -> None:
        self._describer.fit(batches)

    @property
    def fits_on_labels(self) -> bool:
        return bool(self._describer.fits_on_labels)

    def fit_on(self, outputs: Iterable[_Output], labels: Sequence[str] = ()) -> None:
        self._describer.fit_on((output.network for output in outputs), labels)

    def fitted(self) -> Mapping[str, FloatArray]:
        arrays: Mapping[str, FloatArray] = self._describer.fitted()
        return arrays

    def use_fitted(self, arrays: Mapping[str, FloatArray]) -> None:
        self._describer.use_fitted(arrays)


class _Alone:
    def __init__(self, extractor: KeypointExtractor, card: ModelCard) -> None:
        self._extractor, self.card = extractor, card
        self.icc = card.image.icc

    def prepare(self, image: Pixels, bbox: Box | None = None) -> Prepared:
        height, width = image.shape[:2]
        return Prepared([], [], [], width, height, self._extractor.prepare(image, bbox))

    def describe(self, batch: Sequence[Prepared]) -> list[Description]:
        nothing = np.zeros(0, np.float32)
        return [Description(nothing, keypoints=found) for found in self._extractor.extract(_pictures(batch))]


def _joined(descriptions: Sequence[Description], found: Sequence[Keypoints]) -> list[Description]:
    return [replace(one, keypoints=keypoints) for one, keypoints in zip(descriptions, found, strict=True)]


def _pictures(batch: Sequence[Prepared]) -> list[PreparedKeypoints]:
    pictures = [item.keypoints for item in batch if item.keypoints is not None]
    if len(pictures) != len(batch):
        raise RelookError("pictures without keypoints' pixels: they were prepared by another describer")
    return pictures
