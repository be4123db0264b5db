"""A linear map of descriptors, trained on pairs of photos, from the closed-form whitening on.

The loss is the contrastive one (van den Oord et al., 2018, equation 4) with several positives, each weighed by how sure
its pair is. Which photos are taken for others matters most: neighbours whose points do not agree are often of the same
thing (docs/adapt.md), so the nearest photos are neither pulled nor pushed, but for those that a person tells apart.
Descriptors are in memory, so a step takes milliseconds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_array, csr_array
from torch.nn import functional

from pipeline.train.adaptation.group_pairs import Groups
from pipeline.train.init.whitening import Whitening
from pipeline.types import FloatArray

# Photos of a batch, and those that they are compared with beside their positives.
_BATCH, _OTHERS = 256, 1024
# Nearest photos that are not taken for others, and at most which share of all: small collections have few of a thing.
_NEAREST, _SHARE = 30, 0.1
# The rate is a share of the mean size of a weight.
_STEPS, _RATE, _TEMPERATURE = 150, 1e-2, 0.07
# Share of the way back to where they began that weights go in each step: few groups say little of most directions.
_PULL = 1e-3
# A score that counts for nothing; infinity would have no gradient where a whole row has it.
_NONE = -1e4


def train_head(vectors: FloatArray, groups: Groups, start: Whitening, seed: int) -> Whitening:
    """Train on pairs of photos; a photo in no group and in no pair plays no part.

    Args:
        vectors: [N, D].
        groups: of those photos.
        start: where the weights begin, and which photos are near each other.
        seed: of what is drawn.
    """
    rng = np.random.default_rng(seed)
    batches = _Batches(vectors, groups, start)
    first = torch.from_numpy(start.weight.copy()), torch.from_numpy(start.bias.copy())
    weight, bias = (value.clone().requires_grad_(True) for value in first)
    optimizer = torch.optim.Adam([weight, bias], lr=_RATE * float(first[0].abs().mean()))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    for _ in range(_STEPS):
        photos, rows, weights, others = batches.draw(rng)
        mapped = functional.normalize(photos @ weight.T + bias, dim=1)
        loss = pair_contrast(mapped[rows] @ mapped.T / _TEMPERATURE, weights, others)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for value, origin in zip((weight, bias), first, strict=True):
                value.lerp_(origin, _PULL)
    return Whitening(weight.detach().numpy(), bias.detach().numpy())


def pair_contrast(scores: torch.Tensor, weights: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """The mean over photos of the weighted mean over their positives of -log(e^s / (e^s + sum of e^s of others)).

    Args:
        scores: [B, M], similarities over a temperature.
        weights: [B, M], above 0 where column and row show the same thing; some in each row.
        others: [B, M] bool, the columns that show something else. What is neither does not count.
    """
    rest = scores.masked_fill(~others, _NONE).logsumexp(dim=1, keepdim=True)
    each = (torch.logaddexp(scores, rest) - scores) * weights
    return (each.sum(dim=1) / weights.sum(dim=1)).mean()


def far(similarity: torch.Tensor, share: float) -> torch.Tensor:
    """[B, M] bool: all columns but, of each row, the most similar ones, a share of M and at least itself."""
    count = max(1, round(share * similarity.shape[1]))
    return similarity < similarity.topk(count, dim=1).values[:, -1:]


class _Batches:
    """Batches of the photos in groups or pairs; arguments as of `train_head`."""

    def __init__(self, vectors: FloatArray, groups: Groups, start: Whitening) -> None:
        taught = np.concatenate([groups.pairs, groups.denied])
        self._photos = np.union1d(np.flatnonzero(groups.number >= 0), taught)
        count = len(self._photos)
        self._number = groups.number[self._photos]
        self._positives = self._by_photo(groups.pairs, groups.weights)
        self._denied = self._by_photo(groups.denied, np.ones(len(groups.denied)))
        self._with_positives = np.flatnonzero(np.diff(self._positives.indptr))
        self._vectors = torch.from_numpy(vectors[self._photos])
        self._before = functional.normalize(torch.from_numpy(start.apply(vectors[self._photos])), dim=1)
        self._nearest = min(_NEAREST / count, _SHARE)

    def draw(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Descriptors [M, D] of photos, the places [B] of those that learn, and their weights and others [B, M]."""
        rows = np.sort(rng.permutation(self._with_positives)[:_BATCH])
        positives, denied = self._positives[rows], self._denied[rows]
        drawn = rng.permutation(len(self._photos))[:_OTHERS]
        columns = np.unique(np.concatenate([drawn, rows, positives.indices, denied.indices]))
        weights = torch.from_numpy(positives[:, columns].toarray())
        own, number = self._number[rows][:, None], self._number[columns][None]
        one_group = torch.from_numpy((own == number) & (own >= 0))
        others = far(self._before[rows] @ self._before[columns].T, self._nearest)
        others = (others | torch.from_numpy(denied[:, columns].toarray() > 0)) & ~one_group & (weights == 0)
        return self._vectors[columns], torch.from_numpy(np.searchsorted(columns, rows)), weights, others

    def _by_photo(self, pairs: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> csr_array:
        """[n, n] float32, the weights of pairs, each in both directions."""
        left, right = np.searchsorted(self._photos, pairs.T)
        both = np.concatenate([left, right]), np.concatenate([right, left])
        values = np.tile(weights.astype(np.float32), 2)
        return coo_array((values, both), shape=(len(self._photos), len(self._photos))).tocsr()
