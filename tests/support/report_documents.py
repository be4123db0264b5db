"""Documents as `evaluate --report` writes them, small and made by hand, for tests of pages and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def photo(path: Path, seed: int = 0) -> Path:
    """A picture of coloured patches, 400 by 300 pixels."""
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((400, 300)).save(path)
    return path


def curve(shift: float) -> dict[str, Any]:
    """One entry of "curves": what was measured of one ranking."""
    scores = {"edges": [0.0, 0.5, 1.0], "positive": [0.2, 0.8], "negative": [0.9, 0.1]}
    moves = [[1, 1], [9, 2], [3, 30]]
    return {"queries": 4, "recall": [0.0, 0.5, 1.0], "precision": [1.0, 0.8 + shift, 0.5], "scores": scores} | {
        "moves": moves
    }


def report(folder: Path, names: list[str], chain: tuple[str, ...] = ("rrt",)) -> dict[str, Any]:
    """An evaluation.json of a query per name; the AP of query n is n / 10 before and n / 8 after re-ranking."""
    files = [photo(folder / f"{number}.png", number) for number in range(len(names))]
    answers = [
        {"id": f"{n}.png", "path": str(file), "label": names[n], "relevance": ("positive", "", "junk")[n % 3]}
        for n, file in enumerate(files)
    ]
    rows = [
        {
            "query": name,
            "path": str(files[n]),
            "bbox": [10, 10, 200, 200] if n == 0 else None,
            "label": name,
            "global": {"mAP": n / 10, "R@1": float(n % 2)},
            "reranked": {"mAP": n / 8, "R@1": 1.0} if chain else None,
            "answers": {"global": answers, "reranked": answers},
        }
        for n, name in enumerate(names)
    ]
    latency = {"search": {"queries": 3, "median_ms": 1.5, "p95_ms": 2.5}}
    latency["rerank"] = {"queries": 3, "median_ms": 40.0, "p95_ms": 50.0}
    means = {key: {"mAP": 20.0, "R@1": 50.0} for key in ("global", "reranked")}
    return {
        **{"protocol": "labels", "dataset": "photos.csv", "split": None, "queries": len(names), "gallery": 9},
        **{"unscored": 0, "failed": 0, "ignored": 0, "rerank": list(chain), "headline": "mAP"},
        **(means if chain else {**means, "reranked": None}),
        "difference": {"mAP": 3.0, "mAP_se": 1.0, "R@1": 0.0, "R@1_se": 0.0} if chain else None,
        "intervals": {"mAP": [15.0, 25.0], "R@1": [40.0, 60.0]},
        "global_intervals": {"mAP": [14.0, 24.0], "R@1": [40.0, 60.0]},
        "curves": {"global": curve(0.0), **({"reranked": curve(0.1)} if chain else {})},
        "seconds": {"search": 0.1, "rerank": 2.0},
        "latency": latency,
        "weights": "packaged weights",
        "per_query": rows,
    }
