"""When a long run should stop: on request, on a signal, or because its time is over.

Made by the caller of a run, checked by it between two photos. What was begun is finished and committed.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

Item = TypeVar("Item")


class Stop:
    """Whether a run should stop; `reason` says why, "" while there is none.

    Args:
        seconds: the run's time limit, by a clock that never jumps; None: no limit.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self._reason = ""

    @property
    def reason(self) -> str:
        """Why the run should stop; "" while it should not."""
        if not self._reason and self._end is not None and time.monotonic() >= self._end:
            self._reason = "timeout"
        return self._reason

    def request(self, reason: str) -> None:
        """Stop at the next opportunity."""
        self._reason = reason

    def until(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, as long as there is no reason to stop."""
        for item in items:
            if self.reason:
                return
            yield item


@contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """While the block runs, the first SIGINT or SIGTERM is a request to `stop`, and the second ends the process."""

    def request(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if stop.reason.startswith("SIG"):
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.request(name)
        logging.getLogger("relook").warning(
            "%s: finishing and committing what was begun; a second signal ends the process at once", name
        )

    before = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
