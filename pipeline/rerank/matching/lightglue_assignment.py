"""LightGlue's assignment: which keypoints match, read off the tokens after a layer.

Used by `lightglue_network.py`. The score of two keypoints is the product of two softmaxes, over the keypoints of either
image, and of both matchabilities (Lindenberger, Sarlin, Pollefeys, ICCV 2023, equations 7 to 9).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pipeline.rerank.parallel_batches import ThreadMemory

_MEMORY = ThreadMemory()
# Rows of the similarity that are computed and searched at once on a CPU: they stay in a core's cache.
_ROWS = 64
# Far above rounding, of logarithms.
_MARGIN = 1e-3
_LOG_E = math.log2(math.e)


class Entries(NamedTuple):
    """Some `rows`, `columns` [e] int64 of a log assignment, row by row, and its `scores` [e] float32 there."""

    rows: torch.Tensor
    columns: torch.Tensor
    scores: torch.Tensor


class Assignment(nn.Module):
    """Which keypoints match, from the tokens after a layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.matchability = nn.Linear(width, 1)
        self.final_proj = nn.Linear(width, width)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Log assignment [m, n] float32 of the tokens [m, d] and [n, d] of one pair, without those of no match."""
        one, other = self._projected(first), self._projected(second)
        similarity = (one @ other.T).float()
        # The sum of both log-softmaxes and of the log matchabilities: each but the first is of a row or of a column.
        of_rows = self._log_matchable(first) - similarity.logsumexp(dim=1)
        of_columns = self._log_matchable(second) - similarity.logsumexp(dim=0)
        return similarity.mul_(2).add_(of_rows[:, None]).add_(of_columns)

    def above(self, first: torch.Tensor, second: torch.Tensor, threshold: float) -> Entries:
        """All of the log assignment that is above log(threshold), with the same values, and perhaps some below.

        A score is at most the matchability of either keypoint and at most either softmax. So the softmax over one image
        is computed for the matchable keypoints of the other, and the second softmax for the few that are left.
        """
        least = math.log(max(threshold, 1e-30)) - _MARGIN
        matchable = self._log_matchable(first), self._log_matchable(second)
        rows, columns = ((part > least).nonzero().squeeze(1) for part in matchable)
        one, other = self._projected(first), self._projected(second)
        if len(columns) * len(first) < len(rows) * len(second):
            columns, rows, scores = _entries(other, one, columns, matchable[::-1], least)
            order = (rows * len(second) + columns).argsort()
            return Entries(rows[order], columns[order], scores[order])
        return _entries(one, other, rows, matchable, least)

    def with_bins(self, scores: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """[m + 1, n + 1]: a log assignment with the row and the column of those without a match; their corner is 0."""
        whole = functional.pad(scores, (0, 1, 0, 1))
        whole[:-1, -1] = functional.logsigmoid(-self.matchable(first))
        whole[-1, :-1] = functional.logsigmoid(-self.matchable(second))
        return whole

    def matchable(self, tokens: torch.Tensor) -> torch.Tensor:
        """[n] float32 logits of tokens [n, d]: whether a keypoint has a match."""
        logits: torch.Tensor = self.matchability(tokens).float().squeeze(1)
        return logits

    def _log_matchable(self, tokens: torch.Tensor) -> torch.Tensor:
        return functional.logsigmoid(self.matchable(tokens))

    def _projected(self, tokens: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.final_proj(tokens) / tokens.shape[1] ** 0.25
        return projected


def _entries(
    one: torch.Tensor,
    other: torch.Tensor,
    rows: torch.Tensor,
    matchable: tuple[torch.Tensor, ...],
    least: float,
) -> Entries:
    """`Assignment.above` of projected tokens [m, d], [n, d] and the logarithms of their matchabilities [m], [n].

    Args:
        rows: [r] of `one` that can have a match.
    """
    of_rows, columns, scores = _of_softmax(one[rows], other, matchable[0][rows] - least)
    rows = rows[of_rows]
    scores += matchable[0][rows] + matchable[1][columns]
    kept = scores > least
    rows, columns, scores = rows[kept], columns[kept], scores[kept]
    chosen, place = torch.unique(columns, return_inverse=True)
    across = (other[chosen] @ one.T).float()
    scores += across[place, rows] - across.logsumexp(dim=1)[place]
    return Entries(rows, columns, scores)


def _of_softmax(one: torch.Tensor, other: torch.Tensor, reach: torch.Tensor) -> Entries:
    """Where the logarithm of the softmax of the similarity [r, n] of tokens, row by row, is above minus `reach` [r]."""
    size = _ROWS if one.device.type == "cpu" else max(1, len(one))
    scaled, least = _LOG_E * one, (-reach).exp()[:, None]
    places, values, sums = [], [], []
    for start in range(0, len(one), size):
        rows = scaled[start : start + size]
        block = torch.mm(rows, other.T, out=_MEMORY.of((len(rows), len(other)), one)).float()
        block = block.sub_(block.amax(dim=1, keepdim=True)).exp2_()
        sums.append(block.sum(dim=1, keepdim=True))
        above = _true_places(block > sums[-1] * least[start : start + size])
        places.append(above + start * len(other))
        values.append(block.view(-1)[above])
    if not places:
        none = torch.zeros(0, dtype=torch.int64, device=one.device)
        return Entries(none, none, none.float())
    where = torch.cat(places)
    of_rows = where // len(other)
    return Entries(of_rows, where % len(other), (torch.cat(values) / torch.cat(sums).squeeze(1)[of_rows]).log())


def _true_places(table: torch.Tensor) -> torch.Tensor:
    """[k] int64, where a contiguous table of bool is True, by its values' numbers."""
    if table.device.type != "cpu":
        return table.flatten().nonzero().squeeze(1)
    # Where few are, NumPy's search takes a fraction of the time of torch's.
    return torch.from_numpy(np.flatnonzero(table.numpy()))
