"""The first pass of an exact search: which rows of a large array may be near to which queries.

Below `flat.py`. Products of blocks that fit the caches, by numpy on a CPU (its matrix products were the fastest at hand
for few columns) and by torch on CUDA, where the vectors are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.types import FloatArray

Rows = npt.NDArray[np.intp]
Block = tuple[Rows, Rows, FloatArray]

# Scores of a block: 512 kB, which the second-level cache of a core holds.
_SCORES = 1 << 17
# On CUDA a block's scores take 64 MB: few launches, little memory.
_CUDA_SCORES = 1 << 24


class Scanner(Protocol):
    """Multiplies an array of vectors with queries."""

    def scan(self, queries: FloatArray, thresholds: FloatArray, among: Rows | None) -> Iterator[Block]:
        """Rows, queries and their products in float32, of those not below the query's threshold, block by block.

        `thresholds` [Q] is read anew for every block, so that the caller may raise it meanwhile.
        """


def open_scanner(vectors: npt.NDArray[np.floating], device: str) -> Scanner:
    """A scanner of [N, D] float32 or float16 vectors on a device."""
    return NumpyScanner(vectors) if device == "cpu" else TorchScanner(vectors, device)


class NumpyScanner:
    """Products on the CPU, in the threads of numpy's BLAS."""

    def __init__(self, vectors: npt.NDArray[np.floating]) -> None:
        self._vectors = vectors

    def scan(self, queries: FloatArray, thresholds: FloatArray, among: Rows | None) -> Iterator[Block]:
        """See `Scanner.scan`."""
        columns = np.ascontiguousarray(queries.T)
        size = max(256, _SCORES // len(queries))
        scores = np.empty((size, len(queries)), np.float32)
        near = np.empty((size, len(queries)), np.bool_)
        for start, block in _blocks(self._vectors, among, size):
            product = np.matmul(block, columns, out=scores[: len(block)])
            hits = np.flatnonzero(np.greater_equal(product, thresholds, out=near[: len(block)]))
            rows, which = np.divmod(hits, len(queries))
            found = product.reshape(-1)[hits]
            yield (rows + start if among is None else among[rows + start]), which, found


class TorchScanner:
    """Products by torch, where the vectors lie on a device."""

    def __init__(self, vectors: npt.NDArray[np.floating], device: str) -> None:
        import torch

        self._torch: Any = torch
        self._vectors = torch.from_numpy(vectors).to(device)

    def scan(self, queries: FloatArray, thresholds: FloatArray, among: Rows | None) -> Iterator[Block]:
        """See `Scanner.scan`."""
        torch, device = self._torch, self._vectors.device
        columns = torch.from_numpy(queries).to(device).T
        chosen = None if among is None else torch.from_numpy(among).to(device)
        count = len(self._vectors) if chosen is None else len(chosen)
        size = max(256, _CUDA_SCORES // len(queries))
        for start in range(0, count, size):
            block = (
                self._vectors[start : start + size] if chosen is None else self._vectors[chosen[start : start + size]]
            )
            product = block.float() @ columns
            rows, which = torch.nonzero(product >= torch.from_numpy(thresholds).to(device), as_tuple=True)
            found = product[rows, which].cpu().numpy()
            at = rows + start if chosen is None else chosen[rows + start]
            yield at.cpu().numpy(), which.cpu().numpy(), found


def _blocks(vectors: npt.NDArray[np.floating], among: Rows | None, size: int) -> Iterator[tuple[int, FloatArray]]:
    """Blocks of at most `size` rows in float32, with the number of their first row."""
    count = len(vectors) if among is None else len(among)
    widened = None if vectors.dtype == np.float32 else _Widened(size, vectors.shape[1])
    for start in range(0, count, size):
        block = vectors[start : start + size] if among is None else vectors[among[start : start + size]]
        yield start, block if widened is None else widened(block)


class _Widened:
    """float16 as float32, in memory that is used again; torch does it twenty times faster than numpy."""

    def __init__(self, rows: int, columns: int) -> None:
        import torch

        self._from: Any = torch.from_numpy
        self._out = torch.empty(rows, columns)

    def __call__(self, block: npt.NDArray[np.floating]) -> FloatArray:
        out = self._out[: len(block)]
        out.copy_(self._from(block))
        widened: FloatArray = out.numpy()
        return widened
