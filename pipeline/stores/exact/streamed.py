"""The first pass of an exact search over vectors that are not in memory: a block is read, multiplied, overwritten.

Below `search.py`. Each thread reads into an array of its own that stays in its core's caches, so a pass takes about the
time of one copy of the vectors, and some megabytes of memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.stores.exact.blocks import Block, Margin, Rows, begin_thresholds, block_of, in_threads
from pipeline.stores.exact.products import product_of
from pipeline.types import FloatArray

# Bytes that are read and multiplied at once, and blocks that a thread takes together.
_BLOCK_BYTES = 2 << 20
_BLOCKS = 4


class VectorSource(Protocol):
    """N vectors of D values that can be read by row, from any thread."""

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, rows: npt.NDArray[np.integer], /) -> FloatArray:
        """[n, D] float32 of some rows, in any order."""

    def read(self, rows: Rows, out: FloatArray) -> None:
        """Read some rows, ascending, into [n, D] float32."""


class StreamScanner:
    """Products in float32 on the CPU of vectors that are read block by block."""

    def __init__(self, source: VectorSource) -> None:
        self._source = source
        self._own = threading.local()

    def scan(self, queries: FloatArray, thresholds: FloatArray, margin: Margin, among: Rows | None) -> Iterator[Block]:
        """See `Scanner.scan`."""
        multiply = _product_with(queries)
        count = len(self._source) if among is None else len(among)
        size = max(1, _BLOCK_BYTES // (4 * self._source.shape[1]))

        def one(start: int) -> Block:
            rows = np.arange(start, min(start + size, count)) if among is None else among[start : start + size]
            products = multiply(self._read(rows, size))
            if start == 0:
                begin_thresholds(products, thresholds, margin)
            places, which, found = block_of(products, thresholds)
            return rows[places], which, found

        def some(first: int) -> list[Block]:
            return [one(start) for start in range(first, min(first + _BLOCKS * size, count), size)]

        if count:
            yield one(0)
        for blocks in in_threads(some, range(size, count, _BLOCKS * size)):
            yield from blocks

    def _read(self, rows: Rows, size: int) -> FloatArray:
        """These rows, in the array of this thread."""
        if not hasattr(self._own, "block"):
            self._own.block = np.empty((size, self._source.shape[1]), np.float32)
        block: FloatArray = self._own.block[: len(rows)]
        self._source.read(rows, block)
        return block


def _product_with(queries: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """What multiplies a block with queries [Q, D], on one core: NumPy's BLAS would share a block among threads.

    One query takes no longer by `einsum` than by ONNX Runtime, which is not imported for it then.
    """
    if len(queries) == 1:
        return lambda block: np.einsum("ij,j->i", block, queries[0])[:, None]
    multiply, columns = product_of("float32"), np.ascontiguousarray(queries.T)
    return lambda block: multiply(block, columns)
