"""Describe one picture with the smallest model of each of timm's families (random weights) and print a table.

    python benchmarks/backbones.py > table.md

A family is a module of timm; a model has to have pretrained weights somewhere and at most 420 million parameters.
"""

from __future__ import annotations

import re
import sys
import time

import numpy as np
import timm
import torch

from pipeline.describe import load_describer
from pipeline.errors import RelookError

MAX_PARAMETERS = 420_000_000


def smallest_of_each_family() -> dict[str, tuple[str, int]]:
    """timm's modules, and the (name, parameters) of the smallest model of each; nothing is allocated."""
    found: dict[str, tuple[str, int]] = {}
    for family in timm.list_modules():
        for name in timm.list_models(module=family):
            if not timm.is_model_pretrained(name):
                continue
            try:
                with torch.device("meta"):
                    model = timm.create_model(name)
            except Exception as error:  # some models compute with their weights while they are built
                print(f"{name}: not built without memory ({error})", file=sys.stderr)
                continue
            size = sum(parameter.numel() for parameter in model.parameters())
            if size <= MAX_PARAMETERS and (family not in found or size < found[family][1]):
                found[family] = name, size
    return found


def row_of(family: str, name: str) -> str:
    """One line of the table."""
    picture = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    try:
        describer = load_describer(
            name,
            weights="random",
            globals={"scales": (1.0,)},
            locals={"count": 10, "scales": (1.0,), "dimension": None},
        )
        prepared = describer.prepare(picture)
        [description] = describer.describe([prepared])
    except RelookError as error:
        return f"| {family} | {name} | | | | {re.sub('[|]', '/', str(error))} |"
    vector, found = description.vector, description.locals
    assert np.isfinite(vector).all(), name
    assert abs(np.linalg.norm(vector) - 1) < 1e-4, name
    assert found is not None, name
    assert np.isfinite(found.descriptors).all(), name
    height, width = prepared.pixels[0].shape[1:]
    size = describer.network.backbone.fixed_size
    read = f"{width} x {height}{' only' if size else ''}"
    return f"| {family} | {name} | {read} | {len(vector)} | {found.descriptors.shape[1]} | described |"


def main() -> None:
    """Print the table."""
    print("| family | model | input | global | local | outcome |\n|---|---|---|---|---|---|")
    for family, (name, _) in sorted(smallest_of_each_family().items()):
        began = time.monotonic()
        print(row_of(family, name), flush=True)
        print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
