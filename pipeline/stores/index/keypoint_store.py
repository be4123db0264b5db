"""Keypoints at rest: ragged HDF5 parts, read one contiguous slice per image.

Written once per part by the index writer, read by rerankers that match. A part holds offsets [m+1] int64, ids [m],
region [m, 4] float32, and xy [n, 2], score [n] float32, descriptors [n, d] float16 or uint8, where image i has rows
offsets[i]:offsets[i+1]. scale and orientation [n] float32 are there where the detector knows any. A byte is a value of
a descriptor in steps of 1/127 of its largest magnitude, plus 128: its length needs no place, because it is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.stores.exact.products import widened
from pipeline.stores.index.manifest import StoredType
from pipeline.stores.index.plain_arrays import Span
from pipeline.stores.index.ragged_hdf5 import RaggedStore, write_hdf5
from pipeline.types import Box, FloatArray, Keypoints

if TYPE_CHECKING:
    import h5py

_ZERO = 128
_STEPS = 127
_OPTIONAL = ("scale", "orientation")
_PER_KEYPOINT = ("xy", "descriptors", "score", *_OPTIONAL)


@dataclass(frozen=True)
class EncodedKeypoints:
    """The `Keypoints` of one image as a part has them: `descriptors` [n, d] are float16 or uint8."""

    xy: FloatArray
    descriptors: npt.NDArray[Any]
    score: FloatArray
    scale: FloatArray
    orientation: FloatArray
    region: Box

    def __len__(self) -> int:
        return len(self.xy)


def encode(keypoints: Keypoints, stored: StoredType) -> EncodedKeypoints:
    """Round the descriptors to the type that is stored."""
    values = {field.name: getattr(keypoints, field.name) for field in fields(keypoints)}
    if stored == "float16":
        return EncodedKeypoints(**{**values, "descriptors": keypoints.descriptors.astype(np.float16)})
    largest = np.abs(keypoints.descriptors).max(axis=1, keepdims=True, initial=np.finfo(np.float32).tiny)
    steps = np.rint(keypoints.descriptors / largest * _STEPS)
    return EncodedKeypoints(**{**values, "descriptors": (steps + _ZERO).astype(np.uint8)})


def nothing_encoded(dimension: int, stored: StoredType) -> EncodedKeypoints:
    """An image without keypoints, of which no part was read."""
    none = np.zeros(0, np.float32)
    descriptors = np.zeros((0, dimension), stored)
    return EncodedKeypoints(np.zeros((0, 2), np.float32), descriptors, none, none, none, (0.0, 0.0, 0.0, 0.0))


def write_keypoints(path: Path, ids: Sequence[str], items: Sequence[EncodedKeypoints]) -> None:
    """Write the keypoints of m images, in order; their descriptors are of one type."""

    def fill(file: h5py.File) -> None:
        file["region"] = np.array([item.region for item in items], dtype=np.float32)
        for name in _PER_KEYPOINT:
            arrays = [getattr(item, name) for item in items]
            if name not in _OPTIONAL or any(array.any() for array in arrays):
                file[name] = np.concatenate(arrays)

    write_hdf5(path, ids, [len(item) for item in items], fill)


class KeypointStore(RaggedStore[Keypoints]):
    """Reads keypoints by image id."""

    what = "keypoints"
    hint = "extract with describe.keypoints.kind=xfeat"

    def items(self, spans: Sequence[Span]) -> list[Keypoints]:
        """See `RaggedStore.items`."""
        return [_keypoints(span) for span in spans]


def _keypoints(span: Span) -> Keypoints:
    x0, y0, x1, y1 = span.part.whole("region")[span.row].tolist()
    names = [name for name in _PER_KEYPOINT if name not in _OPTIONAL or name in span.part]
    stored = dict(zip(names, span.read(*names), strict=True))
    none = np.zeros(span.last - span.first, np.float32)
    scale, orientation = (stored.get(name, none) for name in _OPTIONAL)
    return Keypoints(
        stored["xy"], _decoded(stored["descriptors"]), stored["score"], scale, orientation, (x0, y0, x1, y1)
    )


def _decoded(stored: npt.NDArray[Any]) -> FloatArray:
    values = widened(stored) if stored.dtype == np.float16 else stored.astype(np.float32)
    if stored.dtype == np.uint8:
        values -= _ZERO
        values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1)
    return values
