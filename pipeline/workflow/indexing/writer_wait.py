"""The writer of an index, as soon as no other run has the lock.

Used by unattended runs: one may still be at work when the next begins.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pipeline.errors import LockedError
from pipeline.stores import IndexWriter
from pipeline.workflow.stop import Stop

_PAUSE = 0.5


@contextmanager
def open_writer(directory: Path, wait: float, stop: Stop) -> Iterator[IndexWriter]:
    """Open the index for writing. Raises LockedError when another run has it for `wait` seconds, or `stop` says so."""
    deadline = time.monotonic() + wait
    with ExitStack() as stack:
        while True:
            try:
                writer = stack.enter_context(IndexWriter(directory))
                break
            except LockedError:
                left = deadline - time.monotonic()
                if left <= 0 or stop.reason:
                    raise
                time.sleep(min(_PAUSE, left))
        yield writer
