"""Blocks of an exact search's first pass: the products of some rows, of which few may be near enough.

Shared by the scanners of `scan.py` and `streamed.py`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.types import FloatArray

Rows = npt.NDArray[np.intp]
Block = tuple[Rows, Rows, FloatArray]
Margin = tuple[int, np.float32]
Result = TypeVar("Result")


def block_of(products: FloatArray, thresholds: FloatArray) -> Block:
    """Rows, queries and products of those of [N, Q] that are not below the query's threshold."""
    hits = np.flatnonzero(products >= thresholds)
    rows, which = np.divmod(hits, products.shape[1])
    return rows, which, products.reshape(-1)[hits]


def begin_thresholds(products: FloatArray, thresholds: FloatArray, margin: Margin) -> None:
    """Raise the thresholds to what the first block has itself, where it has more rows than are wanted."""
    top_k, slack = margin
    if len(products) > top_k:
        place = len(products) - top_k
        np.copyto(thresholds, np.partition(products.T, place)[:, place] - slack)


def in_threads(work: Callable[[int], Result], starts: Sequence[int]) -> Iterator[Result]:
    """Results in order, computed by as many threads as there are cores, a few ahead of whoever takes them."""
    threads = min(os.cpu_count() or 1, len(starts))
    if threads < 2:
        yield from map(work, starts)
        return
    running: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="search") as pool:
        for start in starts:
            running.append(pool.submit(work, start))
            if len(running) > 2 * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
