"""Local descriptors at rest: ragged HDF5 parts, read one contiguous slice per image.

Written once per part by the index writer, read by rerankers. A part holds offsets [m+1] int64, ids [m], and
descriptors [n, d] float16, xy [n, 2], scale [n], weight [n] float32, where image i has rows offsets[i]:offsets[i+1].
float16 changes a unit vector's cosine by less than 1e-3 and halves the bytes (AMES stores them so too). Binarised
descriptors are `bits` [n, d / 8] uint8 instead, most significant bit first, 1 for +1 and 0 for -1. The three arrays of
geometry are not there where an index does without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.stores.exact.products import widened
from pipeline.stores.index.plain_arrays import Array, Span, read_spans
from pipeline.stores.index.ragged_hdf5 import RaggedStore, write_hdf5
from pipeline.types import FloatArray, LocalDescriptors

if TYPE_CHECKING:
    import h5py

_GEOMETRY = {"xy": 2, "scale": None, "weight": None}


def write_locals(
    path: Path,
    ids: Sequence[str],
    items: Sequence[LocalDescriptors],
    *,
    bits: bool = False,
    geometry: bool = True,
) -> None:
    """Write the local descriptors of m images, in order.

    Args:
        path: the part.
        ids: of the images.
        items: what they have.
        bits: every value is +1 or -1, their number a multiple of 8: eight go into a byte.
        geometry: keep xy, scale and weight.
    """

    def fill(file: h5py.File) -> None:
        descriptors = np.concatenate([item.descriptors for item in items])
        if bits:
            file["bits"] = np.packbits(descriptors > 0, axis=1)
        else:
            file["descriptors"] = descriptors.astype(np.float16)
        for name in _GEOMETRY if geometry else ():
            file[name] = np.concatenate([getattr(item, name) for item in items]).astype(np.float32)

    write_hdf5(path, ids, [len(item) for item in items], fill)


class LocalStore(RaggedStore[LocalDescriptors]):
    """Reads local descriptors by image id."""

    what = "local descriptors"
    hint = "extract with describe.locals.count > 0"

    def items(self, spans: Sequence[Span]) -> list[LocalDescriptors]:
        """See `RaggedStore.items`: those of one call share their arrays."""
        if not spans:
            return []
        part = spans[0].part
        names = ["bits" if "bits" in part else "descriptors", *(_GEOMETRY if "xy" in part else ())]
        stored = dict(zip(names, read_spans(spans, names), strict=True))
        arrays = (_descriptors(stored), *(stored.get(name, none) for name, none in _no_geometry().items()))
        ends = accumulate((span.last - span.first for span in spans), initial=0)
        return [LocalDescriptors(*(array[first:last] for array in arrays)) for first, last in pairwise(ends)]


def _descriptors(stored: Mapping[str, Array]) -> FloatArray:
    if "bits" in stored:
        return np.unpackbits(stored["bits"], axis=1).astype(np.float32) * 2 - 1
    return widened(stored["descriptors"])


def _no_geometry() -> dict[str, FloatArray]:
    return {name: np.zeros((0, width) if width else 0, dtype=np.float32) for name, width in _GEOMETRY.items()}
