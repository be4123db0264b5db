"""Work that threads do ahead of whoever takes its results, in order, bounded, and not waited for without end.

Used where photos are read while a network computes: by `describe_stream`, and by the training loop.

A thread cannot be stopped from outside. Whatever reads a photo therefore has limits of its own (`imaging`), and this is
the last resort for what they do not reach: a decoder that stays in one call, a network drive that never answers. Its
thread is abandoned, another takes its place. Processes could be killed instead, but each would import everything again
and hand every picture over a pipe, which the photos that are well would pay for. The threads are our own because those
of `concurrent.futures` are joined when Python ends, where an abandoned one would keep it from ending.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Generic, TypeVar

from pipeline.errors import RelookError

In = TypeVar("In")
Out = TypeVar("Out")

# So many threads that do not come back are no bad photos but a drive that is gone.
MOST_ABANDONED = 64


@dataclass(frozen=True)
class Patience(Generic[In, Out]):
    """How long an item may take, in `seconds`; what `instead` says of it then stands for its result."""

    seconds: float
    instead: Callable[[In], Out]


def prefetch(
    work: Callable[[In], Out],
    items: Iterable[In],
    workers: int,
    limit: int,
    initializer: Callable[[], None] | None = None,
    patience: Patience[In, Out] | None = None,
) -> Iterator[Out]:
    """Results of `work` in order, with at most `limit` of them under way.

    Args:
        work: what is done with an item; what it raises is raised here, in the item's place.
        items: taken one by one, here.
        workers: threads.
        limit: of items taken and not yet answered.
        initializer: runs on each thread first.
        patience: None waits for every item, however long it takes.

    Raises:
        RelookError: more threads than `MOST_ABANDONED` have not come back.
    """
    running: deque[_Task[In, Out]] = deque()
    threads = _Threads(work, workers, initializer, patience)
    try:
        for item in items:
            running.append(threads.give(item))
            if len(running) >= limit:
                yield threads.outcome(running.popleft())
        while running:
            yield threads.outcome(running.popleft())
    finally:
        threads.close(running)


@dataclass(eq=False)
class _Task(Generic[In, Out]):
    """An item under way: which thread took it and when, and whether it was abandoned."""

    item: In
    result: Future[Out] = field(default_factory=Future)
    thread: threading.Thread | None = None
    began: float = 0.0
    abandoned: bool = False


class _Threads(Generic[In, Out]):
    """Threads that take tasks in the order in which they are given."""

    def __init__(
        self,
        work: Callable[[In], Out],
        workers: int,
        initializer: Callable[[], None] | None,
        patience: Patience[In, Out] | None,
    ) -> None:
        self._work, self._workers, self._initializer, self._patience = work, workers, initializer, patience
        self._tasks: SimpleQueue[_Task[In, Out] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lost: list[threading.Thread] = []
        # Held by a thread that hands over a result, and by whoever stops waiting for it: only one of them can.
        self._lock = threading.Lock()

    def give(self, item: In) -> _Task[In, Out]:
        """Have an item worked on."""
        if len(self._threads) < self._workers:
            self._start()
        task: _Task[In, Out] = _Task(item)
        self._tasks.put(task)
        return task

    def outcome(self, task: _Task[In, Out]) -> Out:
        """The result of the first task that is still open: a thread has it already, or takes it next."""
        if self._patience is not None:
            while not wait([task.result], self._left(task, self._patience.seconds)).done:
                if task.thread and self._left(task, self._patience.seconds) == 0 and self._abandon(task, task.thread):
                    return self._patience.instead(task.item)
        return task.result.result()

    def close(self, running: Iterable[_Task[In, Out]]) -> None:
        """Nothing is begun any more; what was begun is waited for, in patience."""
        for task in running:
            task.result.cancel()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join(self._patience.seconds if self._patience else None)

    @staticmethod
    def _left(task: _Task[In, Out], seconds: float) -> float:
        """Of the time that a task has since a thread took it."""
        return max(0.0, task.began + seconds - time.monotonic()) if task.thread else seconds

    def _abandon(self, task: _Task[In, Out], thread: threading.Thread) -> bool:
        with self._lock:
            if task.result.done():
                return False
            task.abandoned = True
        self._threads.remove(thread)
        self._lost = [lost for lost in (*self._lost, thread) if lost.is_alive()]
        if len(self._lost) > MOST_ABANDONED:
            raise RelookError(f"{len(self._lost)} images never came back; is the drive with the photos still there?")
        self._start()
        return True

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self) -> None:
        initializer = self._initializer
        while (task := self._tasks.get()) is not None:
            if not task.result.set_running_or_notify_cancel():
                continue
            task.began, task.thread = time.monotonic(), threading.current_thread()
            hand_over: Callable[[], None]
            try:
                if initializer:
                    initializer()
                    initializer = None
                hand_over = partial(task.result.set_result, self._work(task.item))
            except BaseException as error:
                hand_over = partial(task.result.set_exception, error)
            with self._lock:
                if task.abandoned:
                    return
                hand_over()
