"""Work that threads do ahead of whoever takes its results, in order and bounded.

Used where photos are read while a network computes: by `describe_stream`, and by the training loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def ahead(
    work: Callable[[In], Out],
    items: Iterable[In],
    workers: int,
    limit: int,
    initializer: Callable[[], None] | None = None,
) -> Iterator[Out]:
    """Results of `work` in order, with at most `limit` of them under way; `initializer` runs on each thread first."""
    running: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(workers, initializer=initializer) as pool:
        try:
            for item in items:
                running.append(pool.submit(work, item))
                if len(running) >= limit:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()
