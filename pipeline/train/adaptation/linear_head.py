"""A linear map of descriptors, trained on groups of photos with hard negatives, from the closed-form whitening on.

The loss of a batch is the supervised contrastive one (Khosla et al., NeurIPS 2020, equation 2). Beside each photo are
its hardest negatives: candidates whose points do not agree with its own. Descriptors are in memory, so a step takes
milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from pipeline.train.adaptation.group_pairs import Groups
from pipeline.train.init.whitening import Whitening
from pipeline.train.loop.task import Rows
from pipeline.types import FloatArray

# Groups of a batch, photos of each, hard negatives of each photo.
_GROUPS, _PHOTOS, _HARD = 64, 4, 2
# The rate is a share of the mean size of a weight.
_STEPS, _RATE, _TEMPERATURE = 300, 1e-2, 0.07
# Share of the way back to where they began that weights go in each step: few groups say little of most directions.
_PULL = 1e-3


def train_head(
    vectors: FloatArray, groups: Groups, negatives: Sequence[Rows], start: Whitening, seed: int
) -> Whitening:
    """Train on groups of photos.

    Args:
        vectors: [N, D] of unit length.
        groups: of those photos.
        negatives: of each photo the rows of its hard negatives, those that are nearest first.
        start: where the weights begin.
        seed: of what is drawn.
    """
    rng = np.random.default_rng(seed)
    members = [rows for number in range(groups.count) if len(rows := np.flatnonzero(groups.number == number))]
    given = torch.from_numpy(vectors)
    first = torch.from_numpy(start.weight.copy()), torch.from_numpy(start.bias.copy())
    weight, bias = (value.clone().requires_grad_(True) for value in first)
    optimizer = torch.optim.Adam([weight, bias], lr=_RATE * float(first[0].abs().mean()))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    for _ in range(_STEPS):
        chosen, labels = _batch(rng, members, negatives, groups.number)
        mapped = functional.normalize(given[chosen] @ weight.T + bias, dim=1)
        loss = contrast(mapped, labels, _TEMPERATURE)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for value, origin in zip((weight, bias), first, strict=True):
                value.lerp_(origin, _PULL)
    return Whitening(weight.detach().numpy(), bias.detach().numpy())


def contrast(mapped: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """The mean over photos with a positive of -log of the share of its positives, [B, d] of unit length and [B] int64.

    A photo with a negative label is a negative of all others, and nothing is asked of it.
    """
    scores = mapped @ mapped.T / temperature
    itself = torch.eye(len(mapped), dtype=torch.bool)
    log_shares = scores - scores.masked_fill(itself, float("-inf")).logsumexp(dim=1, keepdim=True)
    positive = (labels[:, None] == labels[None]) & (labels >= 0)[:, None] & ~itself
    counts = positive.sum(dim=1)
    each = (log_shares * positive).sum(dim=1) / counts.clamp(min=1)
    return -each[counts > 0].mean()


def _batch(
    rng: np.random.Generator, members: Sequence[Rows], negatives: Sequence[Rows], number: Rows
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of a batch, each once, and their labels."""
    rows: dict[int, int] = {}
    for group in rng.permutation(len(members))[:_GROUPS].tolist():
        for photo in rng.permutation(members[group])[:_PHOTOS].tolist():
            rows[photo] = int(number[photo])
    for photo in list(rows):
        for other in negatives[photo][:_HARD].tolist():
            rows.setdefault(other, int(number[other]))
    return torch.tensor(list(rows)), torch.tensor(list(rows.values()))
