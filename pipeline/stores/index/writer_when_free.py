"""An index writer as soon as there may be one: a run that begins while another one is at work waits for its lock.

Used by the verbs that run unattended, whose `--wait` says for how long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pipeline.errors import LockedError
from pipeline.stores.index.writer import IndexWriter

# Seconds between two attempts to get the lock.
_PAUSE = 0.5


@contextmanager
def writer_when_free(directory: Path, wait: float, given_up: Callable[[], object]) -> Iterator[IndexWriter]:
    """Open the index for writing as soon as no other run has the lock: one may still be at work.

    Args:
        directory: the index.
        wait: seconds.
        given_up: asked while waiting; true ends it.

    Raises:
        LockedError: another run has it for `wait` seconds, or until `given_up` is true.
    """
    deadline = time.monotonic() + wait
    with ExitStack() as stack:
        while True:
            try:
                writer = stack.enter_context(IndexWriter(directory))
                break
            except LockedError:
                left = deadline - time.monotonic()
                if left <= 0 or given_up():
                    raise
                time.sleep(min(_PAUSE, left))
        yield writer
