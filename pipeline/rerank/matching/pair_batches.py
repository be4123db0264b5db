"""What matchers share: pairs of like sizes in batches, rows of images of different lengths, and mutual maxima.

Used by `mutual.py`, `lightglue.py` and `superglue.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from pipeline.errors import RelookError
from pipeline.rerank.parallel_batches import map_in_parallel
from pipeline.rerank.transformer import additive_mask
from pipeline.types import Keypoints, KeypointsCard, Matches

Pair = tuple[Keypoints, Keypoints]

# Keypoints of both images per batch on a CPU: what the layers write in between then stays in its caches.
_CPU_ROWS = 2048


class Rows:
    """Where the rows of B images lie: one image after the other, or beside each other with zeros at the ends.

    Args:
        lengths: [B] int64 on the CPU, rows of each image; none is 0.
        device: of the rows.

    Attributes:
        lengths: as given.
        longest: the largest of them, n.
        mask: [B, 1, 1, n] float32 to be added to attention over the padded rows; None where all are equally long.
    """

    def __init__(self, lengths: torch.Tensor, device: torch.device) -> None:
        self.lengths = lengths
        self.longest = int(lengths.max())
        self._device = device
        self.mask: torch.Tensor | None = None
        self._places: torch.Tensor | None = None
        if bool((lengths != self.longest).any()):
            padding = torch.arange(self.longest) >= lengths[:, None]
            self.mask = additive_mask(padding.to(device))
            self._places = (~padding).flatten().nonzero().squeeze(1).to(device)

    def padded(self, rows: torch.Tensor) -> torch.Tensor:
        """[B, n, c] of rows [total, c]."""
        count = len(self.lengths)
        if self._places is None:
            return rows.view(count, self.longest, rows.shape[1])
        out = rows.new_zeros(count * self.longest, rows.shape[1])
        out[self._places] = rows
        return out.view(count, self.longest, rows.shape[1])

    def joined(self, padded: torch.Tensor) -> torch.Tensor:
        """Rows [total, c] of [B, n, c]."""
        flat = padded.flatten(0, 1)
        return flat if self._places is None else flat[self._places]

    def owners(self) -> torch.Tensor:
        """[total] int64: which image a row is of."""
        if len(self.lengths) == 1:
            return torch.zeros(self.longest, dtype=torch.int64, device=self._device)
        return torch.arange(len(self.lengths)).repeat_interleave(self.lengths).to(self._device)

    def split(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The rows of each image."""
        return torch.split(rows, self.lengths.tolist())


def match_in_batches(
    pairs: Sequence[Pair],
    work: Callable[[Sequence[int]], list[Matches]],
    largest: int,
    device: torch.device,
) -> list[Matches]:
    """The matches of all pairs, in order.

    Args:
        pairs: those with an image without keypoints have no matches, and no work.
        work: the matches of some pairs, given by their numbers; runs on several threads.
        largest: pairs in a batch, at most.
        device: where `work` computes.
    """
    nothing = Matches(np.zeros((0, 2), np.int64), np.zeros(0, np.float32))
    found = [nothing] * len(pairs)
    batches = sorted_batches(pairs, largest, device)
    for numbers, results in zip(batches, map_in_parallel(work, batches, device), strict=True):
        for number, result in zip(numbers, results, strict=True):
            found[number] = result
    return found


def sorted_batches(pairs: Sequence[Pair], largest: int, device: torch.device) -> list[list[int]]:
    """Numbers of the pairs that have keypoints, those of like lengths together, at most `largest` in a batch."""
    lengths = np.array([(len(first), len(second)) for first, second in pairs], np.int64).reshape(-1, 2)
    order = np.lexsort((lengths[:, 1], lengths[:, 0]))
    order = order[lengths[order].min(axis=1) > 0]
    batches: list[list[int]] = []
    highest = np.zeros(2, np.int64)
    for number in order.tolist():
        together = np.maximum(highest, lengths[number])
        limit = min(largest, _CPU_ROWS // int(together.sum())) if device.type == "cpu" else largest
        if not batches or len(batches[-1]) >= limit:
            batches.append([])
            together = lengths[number]
        batches[-1].append(number)
        highest = together
    return batches


def mutual_maxima(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where the largest of a row is the largest of its column: rows [k], columns [k] int64, and the scores [k].

    Args:
        scores: [m, n]. Of rows with the same largest score in the same column the first counts, so that no row and no
            column occurs twice.
    """
    return mutual_maxima_of([scores] if scores.numel() else [])


def mutual_maxima_of(blocks: Iterable[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`mutual_maxima` of scores that come as blocks of rows [r, n], in order; each may overwrite the one before it."""
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    best: torch.Tensor | None = None
    for block in blocks:
        places, highest = _largest(block)
        found.append((places, block.gather(1, places[:, None]).squeeze(1)))
        best = highest if best is None else torch.maximum(best, highest)
    if best is None:
        none = torch.zeros(0, dtype=torch.int64)
        return none, none, torch.zeros(0)
    columns, values = (torch.cat(part) for part in zip(*found, strict=True))
    rows = (values == best[columns]).nonzero().squeeze(1)
    first = torch.full((len(best),), len(values), device=values.device)
    first.scatter_reduce_(0, columns[rows], rows, "amin")
    rows = rows[first[columns[rows]] == rows]
    return rows, columns[rows], values[rows]


def mutual_entries(
    rows: torch.Tensor, columns: torch.Tensor, scores: torch.Tensor, shape: tuple[int, int]
) -> torch.Tensor:
    """[k] int64, those entries of a matrix that `mutual_maxima` finds where all others are lower.

    Args:
        rows, columns: [e] int64 places, row by row.
        scores: [e] there.
        shape: m and n of the matrix.
    """
    best = torch.arange(len(scores), device=scores.device)
    for places, size in ((rows, shape[0]), (columns, shape[1])):
        highest = scores.new_full((size,), float("-inf")).scatter_reduce_(0, places, scores, "amax")
        best = best[scores[best] == highest[places[best]]]
        first = best.new_full((size,), len(scores)).scatter_reduce_(0, places[best], best, "amin")
        best = best[first[places[best]] == best]
    return best


def _largest(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the largest of each row of [m, n] is [m] int64, and the largest of each column [n]."""
    if scores.device.type != "cpu" or scores.dtype not in (torch.float32, torch.float64):
        return scores.argmax(dim=1), scores.amax(dim=0)
    # NumPy's searches are vectorised: for 1,024 x 1,024 a tenth of the time of torch's.
    table = scores.detach().numpy()
    return torch.from_numpy(table.argmax(axis=1)), torch.from_numpy(table.max(axis=0))


def numpy_matches(rows: torch.Tensor, columns: torch.Tensor, scores: torch.Tensor) -> Matches:
    """Matches of index tensors [k] and their scores [k]."""
    numbers: npt.NDArray[np.int64] = torch.stack([rows, columns], dim=1).cpu().numpy()
    return Matches(numbers, scores.float().cpu().numpy())


def refuse_other_kind(name: str, features: str, width: int | None, card: KeypointsCard) -> None:
    """Raises RelookError when keypoints of this card are not those that a matcher was loaded for.

    Args:
        name: of the matcher.
        features: the kind of keypoints that it was loaded for.
        width: values of the descriptors that it takes; None: any.
        card: of the keypoints.
    """
    if card.kind != features:
        raise RelookError(f"this {name} matches keypoints of {features}, not of {card.kind}")
    refuse_other_width(name, width, card.dimension)


def refuse_other_width(name: str, width: int | None, found: int) -> None:
    """Raises RelookError when descriptors have other than `width` values (None: any)."""
    if width is not None and width != found:
        raise RelookError(
            f"this {name} takes descriptors of {width} values, not of {found}; its checkpoint is for other keypoints "
            "(rerank.matching.checkpoint)"
        )
