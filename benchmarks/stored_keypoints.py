"""What the stored type and the size of the pictures of keypoints do to the metrics of re-ranking by matching.

    python benchmarks/stored_keypoints.py MANIFEST --index DIR [--split val] [--settings stored=uint8 size=960]

The images are described once; keypoints alone are extracted again for each of `--settings`, which are those of
`describe.keypoints`. As many are compared as are stored. One core.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import relook

DEFAULT: dict[str, Any] = {"kind": "xfeat", "stored": "float16", "size": 640, "count": 416}
METRICS = ("mAP", "R@1")


def main() -> None:
    """Measure every setting and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest")
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--split")
    parser.add_argument("--settings", nargs="+", default=["stored=float16", "stored=uint8"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measured(text, options) for text in options.settings]
    table = Table(
        "keypoints", "kB a photo", *METRICS, *(f"global {name}" for name in METRICS), "extract s", "evaluate s"
    )
    for row in rows:
        values = (row["keypoints_kb"], *row["reranked"].values(), *row["global"].values())
        seconds = (f"{row['extract']:.0f}", f"{row['evaluate']:.0f}")
        table.add_row(row["settings"], *(f"{value:.2f}" for value in values), *seconds)
    Console(width=140).print(table)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def measured(text: str, options: argparse.Namespace) -> dict[str, Any]:
    """One line: the metrics with these keypoints."""
    given = dict(part.split("=", 1) for part in text.split(","))
    keypoints = {**DEFAULT, **{key: int(value) if value.isdigit() else value for key, value in given.items()}}
    started = time.process_time()
    relook.extract(options.manifest, index=options.index, describe={"keypoints": keypoints})
    extracted = time.process_time()
    files = list((options.index / "keypoints").glob("*"))
    newest = max(files, key=lambda file: file.stat().st_mtime)
    settings = {"matching": {"keypoints": keypoints["count"]}}
    with relook.open(options.index, rerank=settings) as gallery:
        images = len(gallery)
        found = gallery.evaluate(options.manifest, split=options.split, rerank="superglobal,matching").to_json()
    row = {
        "settings": text,
        "keypoints_kb": newest.stat().st_size / images / 1000,
        "reranked": {name: found["reranked"][name] for name in METRICS},
        "global": {name: found["global"][name] for name in METRICS},
        "extract": extracted - started,
        "evaluate": time.process_time() - extracted,
    }
    print(json.dumps(row), flush=True)
    return row


if __name__ == "__main__":
    main()
