"""Where local descriptors lie in the original picture, and which of them are strong enough to be kept.

The end of describing, after the network and the projections; NumPy alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.types import FloatArray, LocalDescriptors


def located(
    descriptors: FloatArray,
    weight: FloatArray,
    xy: FloatArray,
    numbers: npt.NDArray[np.int64],
    to_original: Sequence[npt.NDArray[np.float32]],
    scales: Sequence[float],
    threshold: float,
) -> list[LocalDescriptors]:
    """The local descriptors of B pictures, at places in pixels of the originals.

    Args:
        descriptors: [B, n, d].
        weight: [B, n], their strength.
        xy: [B, n, 2], in pixels of the input of their own scale.
        numbers: [B, n], which of the scales each was seen at.
        to_original: per picture [S, 4] float32, (sx, sy, dx, dy) from the pixels that each scale read.
        scales: S of them, ascending.
        threshold: weaker ones are left out.
    """
    sizes = 1 / np.array(scales, dtype=np.float32)
    result = []
    for row, ways in enumerate(to_original):
        kept = weight[row] >= threshold
        way = ways[numbers[row]]
        places = xy[row] * way[:, :2] + way[:, 2:]
        seen = sizes[numbers[row]]
        result.append(LocalDescriptors(descriptors[row][kept], places[kept], seen[kept], weight[row][kept]))
    return result
