"""Random orthonormal rows.

Used by the closed-form starts of RRT and AMES.
"""

from __future__ import annotations

import torch


def orthonormal_rows(width: int, count: int) -> torch.Tensor:
    """`count` random orthonormal rows [count, width]; draws from torch's generator."""
    basis: torch.Tensor = torch.linalg.qr(torch.randn(width, count))[0]
    return basis.T
