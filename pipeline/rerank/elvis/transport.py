"""Optimal transport between two sets of unit vectors with a bin of its own for each vector: Sinkhorn's algorithm.

Used by ELViS' network. No step of an iteration takes exponentials or logarithms: cosines and bins lie in [-1, 1],
so that float32 holds the exponentials of the scores, which are computed once, and the factors of rows and columns; each
half of an iteration is a product of a vector and a matrix, and a division. (SuperGlue's couplings have no such bounds:
`matching/superglue_network.py`.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from pipeline.errors import RelookError

# Powers of 2 take half of the time of exponentials: exp(x) = 2 ** (BITS * x).
BITS = math.log2(math.e)
# Largest distance of two scores, sharpness applied, whose exponentials float32 holds beside the factors.
_MOST = 80.0
# Tokens of an image that has none, so that the factor of the other's bin is not 0.
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


@dataclass(frozen=True)
class Margins:
    """The masses of B pairs, times m + n, and what padding adds to the sums of the bins.

    Attributes:
        rows, columns: [B, 1, m + 1] and [B, 1, n + 1], the last ones of the bins.
        query_padding, gallery_padding: [B, 1, 1], tokens of padding, each of which sends its whole mass to its bin.
        gallery_bins: [B, 1, 1], the summed exponentials of the scores of the gallery's padding with the bin.
        counted: whether there is any padding.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    query_padding: torch.Tensor
    gallery_padding: torch.Tensor
    gallery_bins: torch.Tensor
    counted: bool

    def only(self, place: int) -> Margins:
        """Those of one of the pairs."""
        one = slice(place, place + 1)
        of_padding = self.query_padding[one], self.gallery_padding[one], self.gallery_bins[one]
        return Margins(self.rows[one], self.columns[one], *of_padding, self.counted)


def transport(query: Tokens, gallery: Tokens, corner: torch.Tensor, sharpness: float, iterations: int) -> torch.Tensor:
    """The transport of query tokens (rows, first) to gallery tokens, times m + n, without the bins: [B, m, n].

    Each token has the mass 1 / (m + n), the bins those of all tokens of the other side; m and n count padding. Padding
    is not computed token by token: all that it does is to send its mass to the bin, so that its number is enough.

    Args:
        query, gallery: of B pairs.
        corner: scalar, score of the bins with each other.
        sharpness: factor on all scores, the inverse of the weight of the entropy.
        iterations: of Sinkhorn's algorithm.

    Returns:
        Values in [0, 1], 0 where there is no token.
    """
    with torch.autocast(corner.device.type, enabled=False):
        scores = torch.bmm(_rows_with_bin(query, BITS * sharpness), _columns_with_bin(gallery, corner).transpose(1, 2))
        alone = not scores.requires_grad  # then nothing else needs these values, and no other memory is taken
        kernel = scores.exp2_() if alone else scores.exp2()
        u, v = scalings(kernel, margins(query, gallery), iterations)
        rows = u.transpose(1, 2)
        plan = kernel.mul_(rows).mul_(v) if alone else kernel * rows * v
    return plan[:, :-1, :-1]


def margins(query: Tokens, gallery: Tokens) -> Margins:
    """What `scalings` needs of the two sides of B pairs."""
    of_rows, of_columns = _masses(query, gallery.count), _masses(gallery, query.count)
    padding = [side.padding[:, None, None] for side in (query, gallery)]
    counted = any(bool(part.any()) for part in padding)
    sums = [side.padding_bins.exp()[:, None, None] for side in (query, gallery)]
    return Margins(of_rows, of_columns, padding[0], padding[1], sums[1], counted)


def scalings(kernel: torch.Tensor, given: Margins, iterations: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors [B, 1, m + 1] of the rows and [B, 1, n + 1] of the columns of a kernel.

    Args:
        kernel: [B, m + 1, n + 1], exponentials of the scores, sharpness applied; the last row and column of the bins.
        given: of the same pairs.
        iterations: see `transport`.
    """
    # Vectors lie in rows [B, 1, n]: batches of products with them are several times quicker than with columns.
    turned, v = kernel.transpose(1, 2), (given.columns > 0).to(kernel.dtype)
    # Without gradients nothing else needs the sums and factors: each iteration writes where the last one did.
    for_rows, for_columns = (None, None) if torch.is_grad_enabled() else (torch.empty_like(given.rows), v)
    from_gallery = given.gallery_bins
    for _ in range(iterations):
        sums = torch.bmm(v, turned, out=for_rows)
        if given.counted:
            sums = _plus_bin(sums, from_gallery)
            from_query = given.query_padding / v[..., -1:]
        u = torch.div(given.rows, sums, out=for_rows)
        sums = torch.bmm(u, kernel, out=for_columns)
        if given.counted:
            sums = _plus_bin(sums, from_query)
            from_gallery = given.gallery_padding / u[..., -1:]
        v = torch.div(given.columns, sums, out=for_columns)
    return u, v


def refuse_sharpness(corner: torch.Tensor, sharpness: float) -> None:
    """Raises RelookError when float32 cannot hold the exponentials of such scores."""
    top = max(1.0, float(corner.detach()))  # of equal vectors, or of the bins with each other
    if not 0 < sharpness * (1 + top) <= _MOST:
        raise RelookError(
            f"elvis: sharpness = {sharpness:g} with dust_bin = {float(corner.detach()):g} is beyond float32; "
            f"the authors' sharpness is 10, and sharpness * (1 + dust_bin) must be above 0 and at most {_MOST:g}"
        )


def _rows_with_bin(side: Tokens, factor: float) -> torch.Tensor:
    """[B, m + 1, d + 2], so that one product gives cosines, both sides' bins and the corner, times the factor.

    Rows are (unit, own bin, 0) and for the bin (0, 0, 1), times the factor; columns are (unit, 0, own bin) and
    (0, 1, corner).
    """
    rows = functional.pad(factor * torch.cat([side.units, side.bins.unsqueeze(2)], dim=2), (0, 1, 0, 1))
    rows[:, -1, -1] = factor
    return rows


def _columns_with_bin(side: Tokens, corner: torch.Tensor) -> torch.Tensor:
    """[B, n + 1, d + 2]; see `_rows_with_bin`."""
    bins = torch.stack([torch.zeros_like(side.bins), side.bins], dim=2)
    columns = functional.pad(torch.cat([side.units, bins], dim=2), (0, 0, 0, 1))
    columns[:, -1, -2] = 1
    columns[:, -1, -1] = corner
    return columns


def _masses(side: Tokens, others: torch.Tensor) -> torch.Tensor:
    """[B, 1, n + 1] masses times m + n: 1 of a token, 0 where there is none, of the bin the other side's number."""
    bin_ = others.clamp(min=_NOTHING)[:, None]
    tokens = torch.ones_like(side.bins) if side.absent is None else (~side.absent).to(bin_.dtype)
    return torch.cat([tokens, bin_], dim=1).unsqueeze(1).detach()


def _plus_bin(sums: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
    return torch.cat([sums[..., :-1], sums[..., -1:] + padding], dim=2)
