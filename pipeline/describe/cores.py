"""How many cores a thread's network may use: all of them, or one where several networks run side by side.

Set by the threads of `stream.py`, read by the sessions of `runtimes/`. Loads no network library.
"""

from __future__ import annotations

import os
import sys
import threading

_OF_THREAD = threading.local()


def use_one_core() -> None:
    """From now on networks that the calling thread runs use one core."""
    _OF_THREAD.cores = 1
    torch = sys.modules.get("torch")  # where it is not loaded, nothing of it runs
    if torch is not None:
        torch.set_num_threads(1)  # OpenMP keeps the number of threads per thread


def usable_cores() -> int:
    """How many cores a network may use that the calling thread runs."""
    return getattr(_OF_THREAD, "cores", None) or os.cpu_count() or 1
