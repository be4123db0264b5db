"""The time limit on reading and decoding a picture, and the type of what comes out.

Below `read` and `decode`.
"""

from __future__ import annotations

import io
import time

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


class SlowError(Exception):
    """Reading or decoding takes longer than it may."""


class Deadline:
    """When to give up. Raises SlowError once it has passed."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def check(self) -> None:
        if time.monotonic() > self._end:
            raise SlowError(too_slow(self._seconds))


class TimedBytes(io.BytesIO):
    """Bytes that stop a decoder which comes back for more of them when its time is over.

    Pillow asks in blocks of 64 KB, so this ends a slow decoder in its own thread, with its memory freed. One that
    stays in a single call for long is left to whoever waits for the thread (`describe.ahead`).
    """

    def __init__(self, data: bytes, deadline: Deadline) -> None:
        super().__init__(data)
        self._deadline = deadline

    def read(self, size: int | None = -1, /) -> bytes:
        self._deadline.check()
        return super().read(size)


def too_slow(seconds: float) -> str:
    """The reason given for a picture that took longer than it may."""
    return f"not read within {seconds:g} seconds"
