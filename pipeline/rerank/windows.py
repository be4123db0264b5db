"""Sliding windows: a long list of candidates for a reranker that scores a limited number together.

Between the chain and rerankers of lists (`locore`), which say their windows. The chain scores, fuses and sorts one
window after the other, so that a candidate can move on through windows that overlap. Xiao et al., "LoCoRe: Image
Re-ranking with Long-Context Sequence Modeling", CVPR 2025.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Direction = Literal["end-to-start", "start-to-end", "end-to-start-to-end", "start-to-end-to-start"]


@dataclass(frozen=True)
class Windows:
    """Windows over the head of a list.

    Attributes:
        size: candidates in a window, at most.
        stride: places from one window to the next, at most `size`.
        direction: from the end of the head to its start, the other way, or one and then the other, where the window at
            the turn is scored once.
    """

    size: int
    stride: int
    direction: Direction = "end-to-start"

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.size:
            raise ValueError(f"a stride of {self.stride} for windows of {self.size} candidates")

    def passes(self, depth: int) -> list[slice]:
        """The windows over the first `depth` candidates, in the order of their scoring; together they cover all."""
        if depth <= self.size:
            return [slice(0, depth)]
        up = [max(0, start) for start in range(depth - self.size, -self.stride, -self.stride)]
        down = list(range(0, depth - self.stride, self.stride))
        while down[-1] + self.size < depth:  # windows that hardly overlap
            down.append(down[-1] + self.stride)
        backwards = self.direction.startswith("end")
        there, back = (up, down) if backwards else (down, up)
        starts = there + back[1:] if self.direction.count("-to-") == 2 else there
        return [slice(start, min(start + self.size, depth)) for start in starts]


def windows_of(reranker: Any) -> Windows | None:
    """The windows that a reranker says; None: it scores any number of candidates together."""
    windows: Windows | None = getattr(reranker, "windows", None)
    return windows
