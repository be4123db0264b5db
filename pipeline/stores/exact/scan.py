"""The first pass of an exact search: which rows of a large array may be near to which queries.

Below `flat.py`. Products of blocks that fit the caches: by numpy for float32 on a CPU, whose matrix products were the
fastest available for few columns; by torch for float16, which it widens twenty times faster, and on CUDA, where the
vectors are kept. Never by both in turns: the threads of each would wait for a core while those of the other spin on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.types import FloatArray

Rows = npt.NDArray[np.intp]
Block = tuple[Rows, Rows, FloatArray]
Margin = tuple[int, np.float32]

# Scores of a block: 512 kB, which the second-level cache of a core holds.
_SCORES = 1 << 17
# Values of a block of float16 that is widened: 4 MB, which the third-level cache holds.
_WIDENED = 1 << 20
# On CUDA a block's scores take 64 MB: few launches, little memory.
_CUDA_SCORES = 1 << 24


class Scanner(Protocol):
    """Multiplies an array of vectors with queries."""

    def scan(self, queries: FloatArray, thresholds: FloatArray, margin: Margin, among: Rows | None) -> Iterator[Block]:
        """Rows, queries and their products in float32, of those not below the query's threshold, block by block.

        Args:
            queries: [Q, D].
            thresholds: [Q], read again for every block, so that the caller may raise it meanwhile. The first block
                raises it to what it has itself, so that not all of it is handed over.
            margin: how many results are wanted, and how far below the last of them a product still counts.
            among: the rows to look at, ascending; None: all.
        """


def open_scanner(vectors: npt.NDArray[np.floating], device: str) -> Scanner:
    """A scanner of [N, D] float32 or float16 vectors on a device."""
    if device == "cpu" and vectors.dtype == np.float32:
        return NumpyScanner(vectors)
    return TorchScanner(vectors, device)


class NumpyScanner:
    """Products in float32 on the CPU, in the threads of numpy's BLAS."""

    def __init__(self, vectors: FloatArray) -> None:
        self._vectors = vectors

    def scan(self, queries: FloatArray, thresholds: FloatArray, margin: Margin, among: Rows | None) -> Iterator[Block]:
        """See `Scanner.scan`."""
        top_k, slack = margin
        columns = np.ascontiguousarray(queries.T)
        count = len(self._vectors) if among is None else len(among)
        size = max(256, _SCORES // len(queries))
        scores = np.empty((size, len(queries)), np.float32)
        near = np.empty((size, len(queries)), np.bool_)
        for start in range(0, count, size):
            block = self._vectors[start : start + size] if among is None else self._vectors[among[start : start + size]]
            product = np.matmul(block, columns, out=scores[: len(block)])
            if start == 0 and len(block) > top_k:
                np.copyto(thresholds, np.partition(product.T, len(block) - top_k)[:, len(block) - top_k] - slack)
            hits = np.flatnonzero(np.greater_equal(product, thresholds, out=near[: len(block)]))
            rows, which = np.divmod(hits, len(queries))
            found = product.reshape(-1)[hits]
            yield (rows + start if among is None else among[rows + start]), which, found


class TorchScanner:
    """Products in float32 by torch, on the device where the vectors lie."""

    def __init__(self, vectors: npt.NDArray[np.floating], device: str) -> None:
        import torch

        self._torch: Any = torch
        self._vectors = torch.from_numpy(vectors).to(device)

    def scan(self, queries: FloatArray, thresholds: FloatArray, margin: Margin, among: Rows | None) -> Iterator[Block]:
        """See `Scanner.scan`."""
        torch, device = self._torch, self._vectors.device
        top_k, slack = margin
        columns = torch.from_numpy(queries).to(device).T
        chosen = None if among is None else torch.from_numpy(among).to(device)
        count = len(self._vectors) if chosen is None else len(chosen)
        on_cpu = device.type == "cpu"
        size = max(256, (_SCORES if on_cpu else _CUDA_SCORES) // len(queries))
        if on_cpu:
            size = min(size, _WIDENED // queries.shape[1])
        for start in range(0, count, size):
            part = slice(start, start + size)
            block = self._vectors[part] if chosen is None else self._vectors[chosen[part]]
            product = block.float() @ columns
            if start == 0 and len(block) > top_k:
                np.copyto(thresholds, product.topk(top_k, dim=0).values[-1].cpu().numpy() - slack)
            rows, which = torch.nonzero(product >= torch.from_numpy(thresholds).to(device), as_tuple=True)
            found = product[rows, which].cpu().numpy()
            at = rows + start if chosen is None else chosen[rows + start]
            yield at.cpu().numpy(), which.cpu().numpy(), found
