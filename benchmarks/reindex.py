"""How long `relook reindex` takes on a collection in which nothing changed, and how that grows.

    python benchmarks/reindex.py --images 1000 10000 100000

Indexes are made without a network, from descriptions of the default describer's shape (1,280 values, 50 local
descriptors of 128), over files of 16 bytes each: nothing of a photo is read where nothing changed. The command is run
as cron runs it, as a process of its own, once to warm the caches and then `--runs` times; the median is printed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pipeline.config import load_config
from pipeline.stores import IndexWriter
from pipeline.types import Description, ImageRecord, LocalDescriptors, ModelCard
from pipeline.workflow.requested_model import requested_model

ROOT = Path(__file__).resolve().parents[1]
PART = 1024


def main() -> None:
    """Build, run, print one line per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--locals", type=int, default=50, help="local descriptors per image")
    options = parser.parse_args()
    for count in options.images:
        home = Path(tempfile.mkdtemp(prefix="relook-reindex-"))
        try:
            build(home, count, options.locals)
            runs = [run(home) for _ in range(options.runs + 1)][1:]
        finally:
            shutil.rmtree(home)
        wall, inside = (statistics.median(values) for values in zip(*runs, strict=True))
        print(f"{count:>9,} images: {wall:6.2f} s, of which {inside:6.2f} s after start-up", flush=True)


def build(home: Path, count: int, locals_: int) -> None:
    """Files, and an index that knows them all."""
    config = home / "prod.yaml"
    config.write_text(f"index: {home}/index\ncatalog: {{images: {home}/photos}}\n")
    rng = np.random.default_rng(0)
    card = ModelCard("synthetic", "none", "random weights (seed 0)", {}, "", 1280, 128 if locals_ else 0)
    with IndexWriter(home / "index") as writer:
        writer.begin(card, {}, (home / "photos").resolve(), "parquet", requested_model(load_config(config)))
        for first in range(0, count, PART):
            numbers = range(first, min(first + PART, count))
            writer.add([record(home, number) for number in numbers], [description(rng, locals_) for _ in numbers])
        writer.complete(2)


def record(home: Path, number: int) -> ImageRecord:
    """A file, and what the index says of it."""
    path = home / "photos" / f"{number // 1000:03d}" / f"{number:07d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    data = f"{number:016d}".encode()
    path.write_bytes(data)
    name = path.relative_to(home / "photos").as_posix()
    time_ns = path.stat().st_mtime_ns
    return ImageRecord(name, name, "", "", None, 640, 480, 16, time_ns, hashlib.sha256(data).hexdigest())


def description(rng: np.random.Generator, locals_: int) -> Description:
    """Unit vectors in random directions."""
    vector = rng.normal(size=1280).astype(np.float32)
    if not locals_:
        return Description(vector / np.linalg.norm(vector))
    cells = rng.normal(size=(locals_, 128)).astype(np.float32)
    ones = np.ones(locals_, np.float32)
    return Description(
        vector / np.linalg.norm(vector), LocalDescriptors(cells, np.ones((locals_, 2), np.float32), ones, ones)
    )


def run(home: Path) -> tuple[float, float]:
    """Seconds of one run: of the process, and those that it reports."""
    before = set((home / "index").rglob("part-*"))
    started = time.monotonic()
    command = [sys.executable, str(ROOT / "cli.py"), "reindex", "--config", str(home / "prod.yaml"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - started
    result = json.loads(done.stdout)
    assert (result["equal"], result["added"], result["changed"]) == (result["images"], 0, 0)
    assert set((home / "index").rglob("part-*")) == before
    return seconds, result["seconds"]


if __name__ == "__main__":
    main()
