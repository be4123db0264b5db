"""Batches on all cores: one core each, instead of all cores on one batch after the other.

Used by the rerankers on a CPU. Their steps are many and small; dividing each of them among cores costs more than
dividing the batches. On a GPU there is one batch at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

In = TypeVar("In")
Out = TypeVar("Out")


def map_in_parallel(work: Callable[[In], Out], items: Iterable[In], device: torch.device) -> Iterator[Out]:
    """Results of `work` in the order of `items`.

    Args:
        work: runs on another thread; torch's modes (inference, autocast) belong to a thread and are entered in it.
        items: taken on the calling thread, a few ahead, so that what is in memory is bounded.
        device: where `work` computes.
    """
    workers = torch.get_num_threads() if device.type == "cpu" else 1
    if workers == 1:
        yield from map(work, items)
        return
    running: deque[Future[Out]] = deque()
    # OpenMP keeps the number of threads per thread: the caller's stays as it is.
    with ThreadPoolExecutor(workers, initializer=lambda: torch.set_num_threads(1)) as pool:
        for item in items:
            running.append(pool.submit(work, item))
            if len(running) > workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
