"""Logistic regression on one number: slope and offset that turn a score into the logit of "same label".

Calibrates the initial weights of rerankers.
"""

from __future__ import annotations

import torch
from torch.nn import functional

# Keeps the slope finite where the scores separate all pairs.
_RIDGE = 1e-3


def logistic_line(scores: torch.Tensor, truth: torch.Tensor) -> tuple[float, float]:
    """Slope and offset of the logit for scores [P] of pairs with truth [P], 1 for one label, else 0."""
    values, truth = scores.detach().double().cpu(), truth.double().cpu()
    mean, spread = values.mean(), values.std().clamp(min=1e-12)
    standard = (values - mean) / spread
    line = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([line], max_iter=100, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        solver.zero_grad()
        logits = line[0] * standard + line[1]
        loss = functional.binary_cross_entropy_with_logits(logits, truth) + _RIDGE * line[0] ** 2
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(step)  # type: ignore[no-untyped-call]
    slope, offset = line.detach().tolist()
    return slope / float(spread), offset - slope * float(mean / spread)
