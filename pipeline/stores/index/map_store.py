"""Feature maps at rest: HDF5 parts, all levels of an image in one contiguous slice.

Written once per part by the index writer, read by the reranker cvnet. A part holds offsets [m+1] int64, ids [m],
shapes [m, L, 3] int32 (channels, height, width of each level) and values [n] float16, where image i has
offsets[i]:offsets[i+1], level after level, each [C, h, w] in C order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.stores.index.plain_arrays import Span
from pipeline.stores.index.ragged_hdf5 import RaggedStore, write_hdf5
from pipeline.types import FeatureMaps

if TYPE_CHECKING:
    import h5py


def write_maps(path: Path, ids: Sequence[str], items: Sequence[FeatureMaps]) -> None:
    """Write the maps of m images, which all have the same number of levels, in order."""

    def fill(file: h5py.File) -> None:
        file["shapes"] = np.array([[level.shape for level in item] for item in items], dtype=np.int32)
        file["values"] = np.concatenate([level.astype(np.float16).reshape(-1) for item in items for level in item])

    write_hdf5(path, ids, [sum(level.size for level in item) for item in items], fill)


class MapStore(RaggedStore[FeatureMaps]):
    """Reads feature maps by image id."""

    what = "feature maps"
    hint = "extract with describe.maps.levels, as the describers cvnet_r50 and cvnet_r101 do"

    def items(self, spans: Sequence[Span]) -> list[FeatureMaps]:
        """See `RaggedStore.items`; float16."""
        return [_levels(span) for span in spans]


def _levels(span: Span) -> FeatureMaps:
    (values,) = span.read("values")
    levels, start = [], 0
    for shape in span.part.whole("shapes")[span.row].tolist():
        end = start + math.prod(shape)
        levels.append(values[start:end].reshape(shape))
        start = end
    return tuple(levels)
