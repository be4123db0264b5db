"""What AMES's detector costs when a photo is described, beside the strongest cells of the same map: docs/speed.md.

    python benchmarks/detector.py [--photos 6] [--rounds 5] [--describer efficientnet_lite0 cvnet_r101]

Both describe the same sample photos by turns on one thread, with random weights; what is printed is the median of each
photo's milliseconds of CPU time and the ratio of the two, photo by photo, which a loaded machine changes least. Bytes
are those of the descriptors of a photo as an index stores them, with geometry.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from pipeline.describe import load_describer
from pipeline.describe.detector import Detector

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = sorted((ROOT / "data" / "samples" / "images").rglob("*_00.jpg"))
SCALES = (0.7071, 1.0, 1.4142)
# Which map its detector reads, and how many cells are kept.
MAPS: dict[str, dict[str, Any]] = {
    "efficientnet_lite0": {"stage": -2, "count": 50},
    "cvnet_r101": {"stage": 3, "pre_relu": True, "count": 50},
}


def main() -> None:
    """Describe by turns and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--describer", nargs="+", default=list(MAPS), choices=list(MAPS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pictures = [np.asarray(Image.open(path).convert("RGB").resize((512, 384))) for path in SAMPLES[: arguments.photos]]
    table = Table("describer", "cells chosen by", "CPU ms a photo", "ratio", "bytes a photo")
    for name in arguments.describer:
        describers = {kind: made(name, kind) for kind in ("strongest", "detector")}
        seconds = measure(describers, pictures, arguments.rounds)
        pairs = zip(seconds["detector"], seconds["strongest"], strict=True)
        ratio = statistics.median(mine / other for mine, other in pairs)
        for kind, describer in describers.items():
            milliseconds = 1000 * statistics.median(seconds[kind])
            found = describer.describe([describer.prepare(pictures[0])])[0].locals
            size = len(found) * (2 * found.descriptors.shape[1] + 16)
            shown = f"{ratio:.3f}" if kind == "detector" else "1"
            table.add_row(name, kind, f"{milliseconds:.1f}", shown, f"{size:,}")
    Console(width=100).print(table)


def made(name: str, kind: str) -> Any:
    """The describer with its cells chosen so, as the backbone gives them."""
    chosen = {**MAPS[name], "kind": kind, "scales": SCALES, "dimension": None}
    options: dict[str, Any] = {"weights": "random", "globals": {"scales": SCALES}, "maps": {"levels": ()}}
    if kind == "strongest":
        return load_describer(name, **options, locals=chosen)
    width = made(name, "strongest").card.local_dimension
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "detector.safetensors"
        Detector.random(width).save(file)
        return load_describer(name, **options, locals={**chosen, "detector": file})


def measure(describers: dict[str, Any], pictures: Sequence[np.ndarray], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of every photo of every round but the first, by turns."""
    seconds: dict[str, list[float]] = {kind: [] for kind in describers}
    for number in range(rounds + 1):
        for picture in pictures:
            for kind, describer in describers.items():
                prepared = describer.prepare(picture)
                started = time.process_time()
                describer.describe([prepared])
                if number:
                    seconds[kind].append(time.process_time() - started)
    return seconds


if __name__ == "__main__":
    main()
