"""Signals to a run: the first asks it to finish what it has begun, the second ends the process.

Around the verbs that commit part by part.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline.workflow.stop import Stop


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
