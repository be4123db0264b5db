"""What a runtime is: an exported graph, opened, that turns images into named arrays.

Below `registry.py`, whose entries are such sessions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pipeline.types import FloatArray

# The name of the graph's input: [B, 3, h, w] float32, as the network reads it.
IMAGES = "images"
# Its output with the final map: [B, C, h, w].
FINAL = "final"


class Session(Protocol):
    """An opened graph. Several threads may run it at the same time; `cores.usable_cores` says how many cores each has.

    Raises:
        RelookError: the graph cannot be opened.
    """

    def __init__(self, graph: bytes | Path) -> None:
        """Open an ONNX graph, or the file of one."""

    def run(self, images: FloatArray, outputs: Sequence[str]) -> Mapping[str, FloatArray]:
        """The named outputs for images [B, 3, h, w] float32. Raises RelookError where the graph cannot take them."""


def reason_of(error: Exception) -> str:
    """What a runtime says, in one short line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
