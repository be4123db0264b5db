"""The largest values of a transport's rows and columns: how much of a token goes to the one that takes most of it.

Used by ELViS' network. On a CPU without gradients pair by pair, so that one kernel at a time is in memory, which the
thread keeps; the values are those of `transport.py`.
"""

from __future__ import annotations

import torch

from pipeline.rerank.elvis.transport import BITS, Margins, Tokens, margins, scalings, transport
from pipeline.rerank.parallel_batches import ThreadMemory

_MEMORY, _NEAR = ThreadMemory(), ThreadMemory()
# Values of float32 in a line of the cache, a multiple of which each row of a kernel takes.
_LINE = 16


def strongest(
    query: Tokens, gallery: Tokens, corner: torch.Tensor, sharpness: float, iterations: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Largest values [B, m] of the rows, [B, n] of the columns of `transport`; 0 where there is none to choose from."""
    if torch.is_grad_enabled() or corner.device.type != "cpu":
        plan = transport(query, gallery, corner, sharpness, iterations)
        return _largest(plan, 2), _largest(plan, 1)
    with torch.autocast("cpu", enabled=False):
        of_all, factor = margins(query, gallery), sharpness * BITS
        bins = [side.bins * factor for side in (query, gallery)]
        corner = corner * factor
        pairs = []
        for place in range(len(query.units)):
            kernel = _kernel(query.units[place], gallery.units[place], factor)
            kernel[:-1, -1], kernel[-1, :-1], kernel[-1, -1] = bins[0][place], bins[1][place], corner
            pairs.append(_of_kernel(kernel.exp2_().unsqueeze(0), of_all.only(place), iterations))
    rows, columns = zip(*pairs, strict=True)
    return torch.cat(rows), torch.cat(columns)


def _of_kernel(kernel: torch.Tensor, given: Margins, iterations: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`strongest` of one pair: [1, m], [1, n]; overwrites the kernel [1, m + 1, n + 1]."""
    u, v = scalings(kernel, given, iterations)
    plan = kernel[:, :-1, :-1].mul_(v[..., :-1])
    of_query = _largest(plan, 2).mul_(u[:, 0, :-1])
    return of_query, _largest(plan.mul_(u[..., :-1].transpose(1, 2)), 1)


def _kernel(query: torch.Tensor, gallery: torch.Tensor, factor: float) -> torch.Tensor:
    """[m + 1, n + 1] in memory that the thread keeps, all but the last row and column the cosines times `factor`."""
    m, n = len(query), len(gallery)
    whole = _MEMORY.of((m + 1, -(-(n + 1) // _LINE) * _LINE), query)
    inner = whole[:m, :n]
    # Each image of a gallery comes from far memory, where a product reads it more slowly than a copy does.
    near = _NEAR.of(gallery.shape, gallery).copy_(gallery)
    torch.addmm(inner, query, near.T, beta=0, alpha=factor, out=inner)
    return whole[:, : n + 1]


def _largest(plan: torch.Tensor, dim: int) -> torch.Tensor:
    """[B, m] or [B, n] the largest values; 0 where there is none to choose from."""
    return plan.amax(dim) if plan.shape[dim] else plan.sum(dim)
