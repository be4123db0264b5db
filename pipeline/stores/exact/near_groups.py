"""Groups of vectors that are near to each other: blocked products of all pairs, in flat memory.

Used by the verb `duplicates`. Of N vectors of D values every pair is compared once: N^2 D operations, by products of
blocks. Pairs above the threshold are folded into connected components (single linkage) a buffer at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.types import FloatArray

# Bytes of vectors that are compared with all that follow in one pass over them, and rows of one product.
_BLOCK_BYTES = 128 << 20
_ROWS = 2048
# Pairs that are kept until they are folded into components.
_PAIRS = 1 << 20
# Equal vectors have a cosine of 1 but for what float32 sums lose.
_ROUNDING = np.float32(1e-6)


def near_groups(
    stream: Callable[[int], Iterator[FloatArray]],
    count: int,
    threshold: float,
    advance: Callable[[int], None] = lambda rows: None,
) -> npt.NDArray[np.int64]:
    """Connected components of the graph whose edges are pairs with a cosine of at least `threshold`.

    Args:
        stream: of a row number, the vectors [n, D] float32 of unit length from that row to the last, in pieces.
        count: N, how many vectors there are.
        threshold: in [-1, 1].
        advance: told how many more rows are compared with all that follow them.

    Returns:
        [N] int64, the component of each row, numbered from 0.
    """
    groups = _Components(count)
    first = 0
    while first < count:
        block = _gathered(stream(first))
        start = first
        for piece in stream(first):
            for offset in range(0, len(piece), _ROWS):
                rows = piece[offset : offset + _ROWS]
                _add_pairs(groups, block, first, rows, start + offset, threshold)
            start += len(piece)
        advance(len(block))
        first += len(block)
    return groups.numbered()


def _gathered(pieces: Iterator[FloatArray]) -> FloatArray:
    """The first vectors of a stream, as many as fill a block."""
    found: list[FloatArray] = []
    size = 0
    for piece in pieces:
        found.append(piece)
        size += piece.nbytes
        if size >= _BLOCK_BYTES:
            break
    return np.concatenate(found)


def _add_pairs(
    groups: _Components, block: FloatArray, first: int, rows: FloatArray, start: int, threshold: float
) -> None:
    """Compare rows `start` and after with those rows of the block that stand before them."""
    for offset in range(0, len(block), _ROWS):
        ours = block[offset : offset + _ROWS]
        if first + offset >= start + len(rows):  # pairs below the diagonal were seen the other way round
            return
        left, right = np.nonzero(ours @ rows.T >= threshold - _ROUNDING)
        left, right = left + first + offset, right + start
        kept = left < right
        groups.add(left[kept], right[kept])


class _Components:
    """Connected components of N rows, by pairs that arrive in any order."""

    def __init__(self, count: int) -> None:
        self._labels = np.arange(count)
        self._pairs: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
        self._waiting = 0

    def add(self, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> None:
        if len(left):
            self._pairs.append((left, right))
            self._waiting += len(left)
            if self._waiting >= _PAIRS:
                self._fold()

    def numbered(self) -> npt.NDArray[np.int64]:
        self._fold()
        return self._labels

    def _fold(self) -> None:
        left = np.concatenate([np.zeros(0, np.int64), *(pair[0] for pair in self._pairs)])
        right = np.concatenate([np.zeros(0, np.int64), *(pair[1] for pair in self._pairs)])
        size = len(self._labels)
        edges = (np.ones(len(left), np.bool_), (self._labels[left], self._labels[right]))
        _, component = connected_components(coo_array(edges, shape=(size, size)), directed=False)
        self._labels = component[self._labels].astype(np.int64)
        self._pairs, self._waiting = [], 0
