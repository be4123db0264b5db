"""Stand-in weights by rule: every tensor of a checkpoint follows from its official key and its shape alone.

The official numbers beside this file were computed with these weights, so that no file of weights is kept. A tensor is
drawn by `numpy.random.default_rng(crc32(salt + key))`, all at once, in C order and float64, and cast to float32 at the
end. `RULES` says how; the first that matches a key counts.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

Shape = tuple[int, ...]
Draw = Callable[[np.random.Generator, Shape], np.ndarray]

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def normal(factor: float) -> Draw:
    """Normal values of this standard deviation."""
    return lambda rng, shape: rng.standard_normal(shape) * factor


def uniform(low: float, high: float) -> Draw:
    """Uniform values in a range."""
    return lambda rng, shape: rng.uniform(low, high, shape)


def centred(gain: float) -> Draw:
    """Normal values of variance `gain` over the fan-in, every output row without its mean."""

    def draw(rng: np.random.Generator, shape: Shape) -> np.ndarray:
        values = rng.standard_normal(shape) * np.sqrt(gain / int(np.prod(shape[1:])))
        return values - values.mean(axis=tuple(range(1, len(shape))), keepdims=True)

    return draw


# What a key and its number of axes have to be, and how its values are drawn.
RULES: tuple[tuple[Callable[[str, int], bool], Draw], ...] = (
    (lambda key, axes: key.endswith("running_var"), uniform(0.5, 1.5)),
    (lambda key, axes: key.endswith("running_mean"), normal(0.1)),
    (lambda key, axes: key.endswith("pool.p"), lambda rng, shape: np.full(shape, 3.0)),  # the exponent of GeM
    (lambda key, axes: key.endswith("_token"), normal(0.5)),
    (lambda key, axes: key.endswith("_encoder.weight") and axes == 2, normal(0.5)),  # embedding tables
    # The last norm of a residual branch is small, so that sums over many blocks stay small.
    (lambda key, axes: axes == 1 and key.endswith((".f.c_bn.weight", ".bn3.weight")), uniform(0.1, 0.3)),
    (lambda key, axes: axes == 1 and key.endswith("weight"), uniform(0.5, 1.5)),
    (lambda key, axes: axes == 1 and key.endswith("head.fc.bias"), normal(0.005)),
    (lambda key, axes: axes == 1 and key.endswith("bias"), normal(0.05)),
    (lambda key, axes: axes >= 4, centred(2.0)),  # convolutions
    (lambda key, axes: axes >= 2, centred(1.0)),
    (lambda key, axes: True, normal(0.05)),
)


def make_tensor(key: str, shape: Shape, salt: str = "") -> torch.Tensor:
    """The tensor of an official key."""
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if key in IMAGENET and int(np.prod(shape)) == 3:
        return torch.tensor(IMAGENET[key], dtype=torch.float64).reshape(shape).float()
    rng = np.random.default_rng(zlib.crc32((salt + key).encode()))
    draw = next(draw for matches, draw in RULES if matches(key, len(shape)))
    return torch.from_numpy(np.ascontiguousarray(draw(rng, shape), dtype=np.float32).reshape(shape))


def make_state_dict(manifest: Mapping[str, list[int]] | str, salt: str = "") -> dict[str, torch.Tensor]:
    """All tensors of a manifest {key: shape}, or of the JSON file that holds one."""
    shapes = json.loads(Path(manifest).read_text()) if isinstance(manifest, str) else manifest
    return {key: make_tensor(key, tuple(int(size) for size in shape), salt) for key, shape in shapes.items()}
