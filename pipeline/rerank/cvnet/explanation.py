"""Which cells of a pair correlate in favour of the same thing: gradient times input of CVNet's log-odds.

Called by `CVNetReranker.explain`. A volume is bilinear in the cells of its two images, so what a cell times its
gradient gives is the sum over all correlations of that cell, on all levels, each times its own gradient.
"""

from __future__ import annotations

import numpy as np
import torch

from pipeline.rerank.cvnet.network import CVLearner
from pipeline.types import Attended, Box, FloatArray


def attended_cells(
    learner: CVLearner,
    query: torch.Tensor,
    image: torch.Tensor,
    regions: tuple[Box, Box],
    temperature: float,
) -> Attended:
    """The effect of each cell of both images on the logarithm of the odds that they show the same thing.

    Args:
        learner: reads the volumes.
        query, image: [L, C, h, w] each, as the learner reads them.
        regions: x0, y0, x1, y1 of both in pixels of the upright originals.
        temperature: factor on the logits.
    """
    with torch.inference_mode(False), torch.enable_grad():
        sides = [levels.clone().requires_grad_() for levels in (query, image)]
        logits = learner(sides[0], sides[1][None]).float()[0]
        gradients = torch.autograd.grad(temperature * (logits[1] - logits[0]), sides)
    effects = [
        (side.detach() * gradient).sum(dim=(0, 1)).float().cpu().numpy()
        for side, gradient in zip(sides, gradients, strict=True)
    ]
    places = [_centres(effect.shape[0], effect.shape[1], box) for effect, box in zip(effects, regions, strict=True)]
    return Attended(places[0], places[1], effects[0].reshape(-1), effects[1].reshape(-1))


def _centres(rows: int, columns: int, region: Box) -> FloatArray:
    """x and y [rows * columns, 2] of the middles of cells; the centre of the first pixel is (0, 0)."""
    left, top, right, bottom = region
    x = left + (np.arange(columns) + 0.5) * (right - left) / columns - 0.5
    y = top + (np.arange(rows) + 0.5) * (bottom - top) / rows - 0.5
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)
