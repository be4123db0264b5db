"""Reading the local descriptors of random photos: against the same bytes in one piece, and one [N, k, d] dataset.

    python benchmarks/local_reads.py [--photos 100000] [--count 50] [--json FILE]

An index in parts of 256 photos (`--part`), written by relook; the bytes of as many photos in one file, read from its
beginning to its end; and one HDF5 dataset of all descriptors, read by fancy indexing. All are in the page cache, and
the three take turns; the least of `--repeat` counts. "from cold" opens every part file again. Descriptors are stored as
float16 and returned as float32 by relook; the others return float16. relook also returns the geometry.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import h5py
import numpy as np
from measuring import Claim, take_turns, write_json
from rich.console import Console
from rich.table import Table

from pipeline.stores import Index, IndexWriter
from pipeline.types import Description, ImageRecord, LocalDescriptors, ModelCard

DIMENSION = 128


def main() -> None:
    """Build, read, print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--count", type=int, default=50, help="local descriptors of a photo")
    parser.add_argument("--read", type=int, default=100, help="photos read at once")
    parser.add_argument("--part", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        build(home, options.photos, options.count, options.part)
        seconds = measured(home, options.photos, options.read, options.repeat)
    table = Table("photos read", "CPU ms", "of one piece", title=f"{options.read} of {options.photos:,} photos")
    for name, value in seconds.items():
        table.add_row(name, f"{1000 * value:.2f}", f"{value / seconds['one piece']:.2f}")
    Console().print(table)
    what = f"locals of {options.read} of {options.photos:,} photos, {options.count} each"
    cpu = {name: 1000 * value for name, value in seconds.items()}
    write_json(
        options.json,
        [
            Claim(what, "ms of CPU", cpu["relook"], cpu["one dataset"], cpu["one piece"], "fancy indexing"),
            Claim(f"{what}, from cold", "ms of CPU", cpu["from cold"], None, cpu["one piece"]),
        ],
    )


def build(home: Path, photos: int, count: int, part: int) -> None:
    """The index, a file as long as what is read, and the dataset."""
    rng = np.random.default_rng(0)
    cells = rng.standard_normal((part, count, DIMENSION), dtype=np.float32)
    xy, ones = np.ones((count, 2), np.float32), np.ones(count, np.float32)
    items = [Description(np.eye(1, 8, dtype=np.float32)[0], LocalDescriptors(one, xy, ones, ones)) for one in cells]
    card = ModelCard("bench", "none", "random weights (seed 0)", {}, "", 8, DIMENSION)
    with IndexWriter(home / "index") as writer, h5py.File(home / "one.h5", "w") as file:
        data = file.create_dataset("descriptors", (photos, count, DIMENSION), np.float16)
        writer.begin(card, {}, Path("/photos"), "parquet")
        for first in range(0, photos, part):
            names = [f"{row:08d}" for row in range(first, min(first + part, photos))]
            writer.add([ImageRecord(name, f"{name}.jpg") for name in names], items[: len(names)])
            data[first : first + len(names)] = cells[: len(names)]


def measured(home: Path, photos: int, read: int, repeat: int) -> dict[str, float]:
    """CPU seconds of each way; every run reads other photos."""
    rng = np.random.default_rng(1)
    index = Index(home / "index")
    files = sorted((home / "index" / "locals").iterdir())
    for file in (*files, home / "one.h5"):
        file.read_bytes()  # into the page cache
    total = sum(file.stat().st_size for file in files) * read // photos
    piece = home / "piece"
    piece.write_bytes(rng.bytes(total))
    piece.read_bytes()
    index.locals([f"{row:08d}" for row in range(0, photos, 100)])  # every part was seen once
    buffer = bytearray(total)
    dataset = h5py.File(home / "one.h5")["descriptors"]

    # Drawing photos takes longer than reading them.
    draws = iter([rng.choice(photos, read, replace=False) for _ in range(3 * repeat)])

    def names() -> list[str]:
        return [f"{row:08d}" for row in next(draws).tolist()]

    def one_piece() -> None:
        with piece.open("rb", buffering=0) as file:
            file.readinto(buffer)

    def from_cold() -> None:
        index.close()
        index.locals(names())

    ways = {
        "one piece": one_piece,
        "relook": lambda: index.locals(names()),
        "one dataset": lambda: dataset[np.sort(next(draws))],
    }
    taken = take_turns(ways, repeat) | take_turns({"from cold": from_cold}, max(3, repeat // 4))
    return {name: value.cpu for name, value in taken.items()}


if __name__ == "__main__":
    main()
