"""The first pass of an exact search: which rows of a large array may be near to which queries.

Below `search.py`. Products of blocks that fit the caches: on a CPU by NumPy for one query in float32, which takes as
long as reading the vectors, and otherwise by ONNX Runtime, one core a block (`products.py`); by torch on CUDA, where
the vectors are kept. `streamed.py` does it for vectors in files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.stores.exact.blocks import Block, Margin, Rows, begin_thresholds, block_of, in_threads
from pipeline.stores.exact.products import product_of
from pipeline.stores.exact.streamed import StreamScanner, VectorSource
from pipeline.types import FloatArray

# Scores of a block: 512 kB, which the second-level cache of a core holds.
_SCORES = 1 << 17
# Values of a block that one core multiplies, and widens first where they are halves: 4 MB in float32. With half as many
# handing blocks to threads costs more, with twice as many they leave the caches.
_VALUES = 1 << 20
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


def open_scanner(vectors: npt.NDArray[np.floating] | VectorSource, device: str) -> Scanner:
    """A scanner of [N, D] float32 or float16 vectors on a device, or of those that a source reads."""
    if not isinstance(vectors, np.ndarray):
        return StreamScanner(vectors)
    return CPUScanner(vectors) if device == "cpu" else TorchScanner(vectors, device)


class CPUScanner:
    """Products in float32 on the CPU."""

    def __init__(self, vectors: npt.NDArray[np.floating]) -> None:
        self._vectors = vectors

    def scan(self, queries: FloatArray, thresholds: FloatArray, margin: Margin, among: Rows | None) -> Iterator[Block]:
        """See `Scanner.scan`."""
        columns = np.ascontiguousarray(queries.T)
        count = len(self._vectors) if among is None else len(among)
        shared = self._vectors.dtype == np.float32 and len(queries) == 1
        multiply = np.matmul if shared else product_of(self._vectors.dtype.name)
        size = max(256, _SCORES // len(queries))
        if not shared:
            size = max(256, min(size, _VALUES // queries.shape[1]))

        def one(start: int) -> Block:
            part = slice(start, start + size)
            products = multiply(self._vectors[part] if among is None else self._vectors[among[part]], columns)
            if start == 0:
                begin_thresholds(products, thresholds, margin)
            rows, which, found = block_of(products, thresholds)
            return (rows + start if among is None else among[rows + start]), which, found

        if count:
            yield one(0)
        starts = range(size, count, size)
        yield from map(one, starts) if shared else in_threads(one, starts)


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
        size = max(256, _CUDA_SCORES // len(queries))
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
