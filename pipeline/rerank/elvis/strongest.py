"""The largest values of a transport's rows and columns: how much of a token goes to the one that takes most of it.

Used by ELViS' network. On a CPU without gradients pair by pair, so that one kernel at a time is in memory, which the
thread keeps; the values are those of `transport.py`.
"""

from __future__ import annotations

import torch

from pipeline.rerank.elvis.transport import BITS, Tokens, scalings, transport
from pipeline.rerank.parallel_batches import ThreadMemory

_MEMORY = ThreadMemory()
# Values of float32 in a line of the cache, a multiple of which each row of a kernel takes.
_LINE = 16


def strongest(
    query: Tokens, gallery: Tokens, corner: torch.Tensor, sharpness: float, iterations: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Largest values [B, m] of the rows, [B, n] of the columns of `transport`; 0 where there is none to choose from."""
    if torch.is_grad_enabled() or corner.device.type != "cpu":
        plan = transport(query, gallery, corner, sharpness, iterations)
        return _largest(plan, 2), _largest(plan, 1)
    places = [slice(place, place + 1) for place in range(len(query.units))]
    pairs = [_of_pair(query.only(place), gallery.only(place), corner, sharpness, iterations) for place in places]
    rows, columns = zip(*pairs, strict=True)
    return torch.cat(rows), torch.cat(columns)


def _of_pair(
    query: Tokens, gallery: Tokens, corner: torch.Tensor, sharpness: float, iterations: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """`strongest` of one pair: [1, m], [1, n]."""
    with torch.autocast("cpu", enabled=False):
        kernel = _kernel(query, gallery, corner, sharpness * BITS)
        u, v = scalings(kernel, query, gallery, iterations)
        plan = kernel[:, :-1, :-1].mul_(v[..., :-1])
        of_query = _largest(plan, 2).mul_(u[:, 0, :-1])
        return of_query, _largest(plan.mul_(u[..., :-1].transpose(1, 2)), 1)


def _kernel(query: Tokens, gallery: Tokens, corner: torch.Tensor, factor: float) -> torch.Tensor:
    """The kernel [1, m + 1, n + 1] of one pair, in memory that the thread keeps."""
    m, n = query.bins.shape[1], gallery.bins.shape[1]
    whole = _MEMORY.of((m + 1, -(-(n + 1) // _LINE) * _LINE), query.units)
    inner = whole[:m, :n]
    torch.addmm(inner, query.units[0], gallery.units[0].T, beta=0, alpha=factor, out=inner)
    torch.mul(query.bins[0], factor, out=whole[:m, n])
    torch.mul(gallery.bins[0], factor, out=whole[m, :n])
    whole[m, n] = factor * corner
    return whole[:, : n + 1].exp2_().unsqueeze(0)


def _largest(plan: torch.Tensor, dim: int) -> torch.Tensor:
    """[B, m] or [B, n] the largest values; 0 where there is none to choose from."""
    return plan.amax(dim) if plan.shape[dim] else plan.sum(dim)
