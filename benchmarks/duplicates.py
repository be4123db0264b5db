"""`duplicates`: how many copies a threshold finds, and seconds and memory of comparing all pairs of a large index.

    python benchmarks/duplicates.py [--images 20000 100000] [--dimension 1280]
    python benchmarks/duplicates.py --photos FOLDER [--count 150]

The first makes indexes of random vectors with 1 % planted copies and runs the verb as a process; beside its seconds
stand those that one square matrix product of the same operations takes. The second makes a recompressed, a smaller or a
narrower copy of each of some photos, describes them, and counts pairs above thresholds.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measuring import Claim, write_json
from PIL import Image
from rich.console import Console
from rich.table import Table

from pipeline.config import load_config
from pipeline.stages.extract import extract
from pipeline.stores import Index, IndexWriter
from pipeline.types import Description, ImageRecord, ModelCard

ROOT = Path(__file__).resolve().parents[1]
THRESHOLDS = (0.85, 0.88, 0.90, 0.92, 0.95, 0.97)
PART = 4096


def main() -> None:
    """Print one of the two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--dimension", type=int, default=1280)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        if arguments.photos:
            Console().print(copies(Path(work), arguments.photos, arguments.count))
        else:
            Console().print(speed(Path(work), arguments.images, arguments.dimension, arguments.json))


def speed(work: Path, sizes: list[int], dimension: int, file: Path | None) -> Table:
    """Seconds and peak memory of the verb at each size; `file` gets the seconds."""
    side = 4096
    square = np.random.default_rng(0).random((side, side), dtype=np.float32)
    started = time.monotonic()
    square @ square
    rate = 2 * side**3 / (time.monotonic() - started)
    claims = []
    table = Table("images", "seconds", "of one product", "peak MB", "vectors MB", "groups", "planted")
    for count in sizes:
        directory = work / str(count)
        planted = make_index(directory, count, dimension)
        seconds, peak, groups = run(directory)
        ideal = count * (count - 1) * dimension / rate
        megabytes = count * dimension * 4 / 1e6
        share = f"{ideal / seconds:.0%}"
        claims.append(Claim(f"duplicates among {count:,} images", "s", seconds, None, ideal))
        table.add_row(
            f"{count:,}", f"{seconds:.1f}", share, f"{peak:.0f}", f"{megabytes:.0f}", str(groups), str(planted)
        )
    write_json(file, claims)
    return table


def make_index(directory: Path, count: int, dimension: int) -> int:
    """An index of random unit vectors; every hundredth has a near copy. Returns how many copies there are."""
    rng = np.random.default_rng(count)
    card = ModelCard("made", "none", "random weights (seed 0)", {}, "", dimension, 0)
    copies_of = {row: row - 50 for row in range(99, count, 100)}
    last = np.zeros((0, dimension), np.float32)
    with IndexWriter(directory) as writer:
        writer.begin(card, {}, directory, "parquet")
        for first in range(0, count, PART):
            vectors = rng.standard_normal((min(PART, count - first), dimension), dtype=np.float32)
            both = np.concatenate([last, vectors])
            for row in range(first, first + len(vectors)):
                if row in copies_of:
                    near = both[copies_of[row] - first + len(last)]
                    both[row - first + len(last)] = near + 0.1 * rng.standard_normal(dimension, dtype=np.float32)
            vectors = both[len(last) :]
            last = vectors[-100:]
            unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            names = [f"{first + row:07}.jpg" for row in range(len(unit))]
            records = [ImageRecord(name, name, "", "", None, 64, 48, 1, 1, name) for name in names]
            writer.add(records, [Description(vector) for vector in unit])
    return len(copies_of)


def run(directory: Path) -> tuple[float, float, int]:
    """Seconds of the whole process, its peak resident memory in MB, and how many groups it found."""
    code = (
        "import sys; from pipeline.cli import app; "
        f"app(['duplicates', '--index', {str(directory)!r}, '--json', '-q'], standalone_mode=False); "
        "print([line for line in open('/proc/self/status') if line.startswith('VmHWM')][0].split()[1], file=sys.stderr)"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - started
    return seconds, int(done.stderr.split()[-1]) / 1000, len(json.loads(done.stdout)["groups"])


def copies(work: Path, folder: Path, count: int) -> Table:
    """Pairs above each threshold: of a photo and its copy, and of different photos."""
    files = sorted(file for file in folder.rglob("*.jpg"))
    chosen = random.Random(0).sample(files, min(count, len(files)))
    (work / "photos").mkdir()
    for number, file in enumerate(chosen):
        with Image.open(file) as picture:
            image = picture.convert("RGB")
        image.save(work / "photos" / f"{number:04}_original.png")
        width, height = image.size
        if number % 3 == 0:
            image.save(work / "photos" / f"{number:04}_jpeg.jpg", quality=50)
        elif number % 3 == 1:
            image.resize((width * 2 // 3, height * 2 // 3)).save(work / "photos" / f"{number:04}_small.jpg", quality=80)
        else:
            box = (width // 25, height // 25, width - width // 25, height - height // 25)
            image.crop(box).save(work / "photos" / f"{number:04}_crop.jpg", quality=85)
    extract(load_config(overrides=[f"index={work / 'index'}"]), str(work / "photos"))
    parts = list(Index(work / "index").globals_parts())
    names = [name[:4] for part in parts for name in part.ids]
    vectors = np.concatenate([part.vectors for part in parts])
    left, right = np.triu_indices(len(names), 1)
    cosines = (vectors @ vectors.T)[left, right]
    same = np.array(names)[left] == np.array(names)[right]
    table = Table("threshold", f"of {same.sum()} copies found", f"of {(~same).sum():,} other pairs")
    for threshold in THRESHOLDS:
        above = cosines >= threshold
        table.add_row(f"{threshold:.2f}", f"{above[same].mean():.1%}", str(int(above[~same].sum())))
    return table


if __name__ == "__main__":
    main()
