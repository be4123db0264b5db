"""Optimal transport between two sets of unit vectors with a bin of its own for each vector: Sinkhorn's algorithm.

Used by ELViS' network. The exponentials of the scores are computed only once, and the potentials are factors, not
logarithms: cosines and bins lie in [-1, 1], so that float32 holds them all, and each half of an iteration is a product
of a vector and a matrix instead of a pass of exponentials over it. (SuperGlue's couplings have no such bounds:
`matching/superglue_network.py`.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.errors import RelookError
from pipeline.rerank.parallel_batches import ThreadMemory

# Largest distance of two scores, sharpness applied, whose exponentials float32 holds beside those of the potentials.
_MOST = 80.0
# Tokens of an image that has none, so that the other's bin has a mass to divide by.
_NOTHING = 1e-12


@dataclass(frozen=True)
class Tokens:
    """One side of B pairs.

    Attributes:
        units: [B, n, d] of unit length.
        bins: [B, n] in [-1, 1], the score of each token with the bin.
        absent: [B, n] bool, True where there is no token; None: nowhere.
        padding: [B] float, tokens of padding that the masses count: they match nothing but the bin.
        padding_bins: [B] float, logarithm of the summed exponentials of their scores with the bin, sharpness applied;
            minus infinity where there are none.
    """

    units: torch.Tensor
    bins: torch.Tensor
    absent: torch.Tensor | None
    padding: torch.Tensor
    padding_bins: torch.Tensor

    @property
    def count(self) -> torch.Tensor:
        """[B] float, tokens that the masses count: real ones and padding."""
        if self.absent is None:
            return self.padding + self.bins.shape[1]
        return self.padding + (~self.absent).sum(dim=1)


def transport(
    query: Tokens,
    gallery: Tokens,
    corner: torch.Tensor,
    sharpness: float,
    iterations: int,
    memory: ThreadMemory | None = None,
) -> torch.Tensor:
    """The transport of query tokens (rows, first) to gallery tokens, times m + n, without the bins: [B, m, n].

    Each token has the mass 1 / (m + n), the bins those of all tokens of the other side; m and n count padding. Padding
    is not computed token by token: all that it does is to send its mass to the bin, so that its number is enough.

    Args:
        query, gallery: of B pairs.
        corner: scalar, score of the bins with each other.
        sharpness: factor on all scores, the inverse of the weight of the entropy.
        iterations: of Sinkhorn's algorithm.
        memory: where the result lies until the thread's next call; None: in new memory. Not with gradients.

    Returns:
        Values in [0, 1], 0 where there is no token.
    """
    with torch.autocast(corner.device.type, enabled=False):
        left, right = _rows_with_bin(query, sharpness), _columns_with_bin(gallery, corner).transpose(1, 2)
        out = None if memory is None else memory.of((len(left), left.shape[1], right.shape[2]), left)
        scores = torch.bmm(left, right) if out is None else torch.bmm(left, right, out=out)
        alone = not scores.requires_grad  # then nothing else needs these values, and no other memory is taken
        kernel = scores.exp_() if alone else scores.exp()
        m, n = query.count, gallery.count
        mass = 1 / (m + n).clamp(min=1)
        of_rows, of_columns = _masses(mass, query, n), _masses(mass, gallery, m)
        counted = bool(query.padding.any() or gallery.padding.any())
        from_gallery = gallery.padding_bins.exp()
        columns = (of_columns > 0).to(kernel.dtype)
        for _ in range(iterations):
            sums = _times(columns, kernel.transpose(1, 2))
            if counted:
                sums = _plus_bin(sums, from_gallery)
                from_query = _from_padding(query, mass, columns)
            rows = of_rows / sums
            sums = _times(rows, kernel)
            if counted:
                sums = _plus_bin(sums, from_query)
                from_gallery = _from_padding(gallery, mass, rows)
            columns = of_columns / sums
        rows = (rows / mass[:, None, None]).transpose(1, 2)
        plan = kernel.mul_(rows).mul_(columns) if alone else kernel * rows * columns
    return plan[:, :-1, :-1]


def top_score(corner: torch.Tensor) -> float:
    """The highest score that there can be: of equal vectors, or of the bins with each other."""
    return max(1.0, float(corner.detach()))


def refuse_sharpness(corner: torch.Tensor, sharpness: float) -> None:
    """Raises RelookError when float32 cannot hold the exponentials of such scores."""
    if not 0 < sharpness * (1 + top_score(corner)) <= _MOST:
        raise RelookError(
            f"elvis: sharpness = {sharpness:g} with dust_bin = {float(corner.detach()):g} is beyond float32; "
            f"the authors' sharpness is 10, and sharpness * (1 + dust_bin) must be above 0 and at most {_MOST:g}"
        )


def _times(vectors: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """Products [B, 1, k] of vectors [B, 1, n] and matrices [B, n, k].

    Vectors lie in rows: batches of products with them are several times quicker than with columns. One alone is
    quicker by itself than as a batch.
    """
    if len(matrices) > 1:
        return vectors @ matrices
    return torch.mv(matrices[0].T, vectors[0, 0])[None, None]


def _rows_with_bin(side: Tokens, sharpness: float) -> torch.Tensor:
    """[B, m + 1, d + 2], so that one product gives cosines, both sides' bins and the corner, scaled.

    Rows are (unit, own bin, 0) and for the bin (0, 0, 1), all times the sharpness; columns are (unit, 0, own bin) and
    (0, 1, corner).
    """
    rows = _with_bin(side)
    rows[:, :-1, :-2], rows[:, :-1, -2] = sharpness * side.units, sharpness * side.bins
    rows[:, -1, -1] = sharpness
    return rows


def _columns_with_bin(side: Tokens, corner: torch.Tensor) -> torch.Tensor:
    """[B, n + 1, d + 2]; see `_rows_with_bin`."""
    columns = _with_bin(side)
    columns[:, :-1, :-2], columns[:, :-1, -1] = side.units, side.bins
    columns[:, -1, -2], columns[:, -1, -1] = 1, corner
    return columns


def _with_bin(side: Tokens) -> torch.Tensor:
    """Zeros [B, n + 1, d + 2]."""
    count, tokens, width = side.units.shape
    return side.units.new_zeros(count, tokens + 1, width + 2)


def _masses(mass: torch.Tensor, side: Tokens, others: torch.Tensor) -> torch.Tensor:
    """[B, 1, n + 1] masses of tokens, 0 where there is none, and of the bin."""
    masses = mass[:, None].expand(side.bins.shape)
    if side.absent is not None:
        masses = masses.masked_fill(side.absent, 0)
    return torch.cat([masses, (mass * others.clamp(min=_NOTHING))[:, None]], dim=1).unsqueeze(1)


def _from_padding(side: Tokens, mass: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """[B] what padding adds to its bin's sum: each of its tokens sends its whole mass there."""
    return side.padding * mass / factors[:, 0, -1]


def _plus_bin(sums: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
    return torch.cat([sums[..., :-1], sums[..., -1:] + padding[:, None, None]], dim=2)
