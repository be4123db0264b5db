"""When a long run should stop: on request, or because its time is over.

Given by whoever starts the run, asked by the stages between two photos. What was begun is finished and committed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


class Stop:
    """Whether to go on; `reason` says why not, "" while there is none.

    Args:
        seconds: the run's time, by a clock that never jumps; None: as long as it takes.
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
        """The items as long as nobody asked to stop."""
        for item in items:
            if self.reason:
                return
            yield item
