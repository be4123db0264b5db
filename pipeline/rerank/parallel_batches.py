"""Batches on all cores: one core each, instead of all cores on one batch after the other.

Used by the rerankers on a CPU. Their steps are many and small; dividing each of them among cores costs more than
dividing the batches. On a GPU there is one batch at a time.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

In = TypeVar("In")
Out = TypeVar("Out")


class ThreadMemory(threading.local):
    """Memory for results that a thread needs only until it computes the next one.

    New memory of some hundred kilobytes comes from the operating system page by page, which costs more than a pass over
    memory that is at hand.
    """

    def __init__(self) -> None:
        self._values = torch.empty(0)

    def of(self, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """A tensor of this shape with the type and device of another, its values whatever the last one left."""
        count = math.prod(shape)
        if len(self._values) < count or self._values.dtype != like.dtype or self._values.device != like.device:
            with torch.inference_mode(False):  # such memory can be written in any mode
                self._values = like.new_empty(count)
        return self._values[:count].view(*shape)


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
