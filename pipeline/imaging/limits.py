"""The time limit on reading and decoding a picture, and the type of what comes out.

Below `read` and `decode`.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
# Of the (width, height) of an upright picture, the sides that must be left where it is decoded at a part of them.
Smallest = Callable[[int, int], tuple[int, int]]


class SlowError(Exception):
    """Reading or decoding exceeds its time limit."""


class Deadline:
    """The end of the time for one picture; `check` raises SlowError after it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def check(self) -> None:
        if time.monotonic() > self._end:
            raise SlowError(too_slow(self._seconds))


class TimedBytes(io.BytesIO):
    """Bytes whose `read` raises SlowError after the deadline.

    Pillow reads blocks of 64 KB, so a slow decoder ends in its own thread and frees its memory. A decoder that stays
    in one call for long is abandoned by `describe.prefetch`.
    """

    def __init__(self, data: bytes, deadline: Deadline) -> None:
        super().__init__(data)
        self._deadline = deadline

    def read(self, size: int | None = -1, /) -> bytes:
        self._deadline.check()
        return super().read(size)


def too_slow(seconds: float) -> str:
    """The reason for a picture that exceeds its time limit."""
    return f"not read within {seconds:g} seconds"
