"""What one open gallery adds to its parts, and what the records of ten hits cost in a large index.

    python benchmarks/gallery.py [--images data/samples/manifest.csv] [--repeat 30] [--rows 200000]

First: a search of a gallery that has searched before, beside reading and describing the photo, asking the store and
re-ranking, each called by itself; they take turns, and medians count;
the ratio of CPU seconds depends less on other work of the machine. Second: an index without photos of `--rows`
images in parts of 1,024; the seconds and the memory of the first and the second ten records, found by id, beside those
of building every record of the catalog.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import relook
from pipeline.rerank import apply_chain
from pipeline.stores import Index, IndexWriter
from pipeline.types import Candidates, Description, ImageRecord, ModelCard
from pipeline.workflow.model_loading import read_options

ROOT = Path(__file__).resolve().parents[1]
PART = 1024
console = Console(width=110)


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, default=ROOT / "data" / "samples" / "manifest.csv")
    parser.add_argument("--repeat", type=int, default=30)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--records", choices=["by id", "all"], help=argparse.SUPPRESS)
    parser.add_argument("--index", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.records:
        print(*measure_records(arguments.index, arguments.records))
        return
    with tempfile.TemporaryDirectory() as folder:
        console.print(searches(arguments.images, Path(folder) / "photos", arguments.repeat))
        console.print(records(Path(folder) / "rows", arguments.rows))


def searches(images: Path, folder: Path, repeat: int) -> Table:
    """A search of an open gallery beside its parts."""
    relook.extract(images, index=folder)
    gallery = relook.open(folder)
    paths = [gallery.index.image_file(record) for record in gallery.index.records.values()][:repeat]
    gallery.search(paths[0])
    parts(gallery, paths[0])
    whole, alone, cpu = [], [], []
    for number, path in enumerate(paths):
        path.read_bytes()  # both read it from the cache
        used = {}
        for turn in ("search", "parts") if number % 2 else ("parts", "search"):
            started, before = time.perf_counter(), time.process_time()
            if turn == "search":
                gallery.search(path)
                whole.append(time.perf_counter() - started)
            else:
                alone.append(parts(gallery, path))
            used[turn] = time.process_time() - before
        cpu.append((used["search"], used["parts"]))
    rows = [*zip(("read and describe", "candidates", "re-rank"), np.median(alone, axis=0), strict=True)]
    together, searched = statistics.median(map(sum, alone)), statistics.median(whole)
    table = Table(
        title=f"one photo in an open gallery of {len(gallery)}, medians of {len(paths)}", title_justify="left"
    )
    table.add_column("step")
    table.add_column("ms", justify="right")
    for name, seconds in [*rows, ("together", together), ("gallery.search", searched)]:
        table.add_row(name, f"{1000 * seconds:.1f}")
    table.add_row("ratio", f"{searched / together:.2f}")
    table.add_row("ratio of CPU seconds", f"{np.divide(*np.median(cpu, axis=0)):.2f}")
    return table


def parts(gallery: relook.Gallery, path: Path) -> tuple[float, float, float]:
    """Seconds of describing, of searching and of re-ranking, called one by one in this thread."""
    chain = gallery.chain()
    times = [time.perf_counter()]
    picture = read_options(gallery.config).read(path, icc=gallery.index.card.image.icc)
    (description,) = gallery.describer.describe([gallery.describer.prepare(picture.pixels)])
    times.append(time.perf_counter())
    (found,) = gallery.store.query(description.vector[None], max(step.top for step in chain))
    times.append(time.perf_counter())
    apply_chain(chain, [description], Candidates([str(path)], [found[0]], [found[1]]), gallery)
    times.append(time.perf_counter())
    read, searched, reranked = np.diff(times).tolist()
    return read, searched, reranked


def records(folder: Path, rows: int) -> Table:
    """The records of ten hits, read by id, beside those of the whole catalog; a process each."""
    vectors = np.eye(4, dtype=np.float32)
    with IndexWriter(folder) as writer:
        writer.begin(ModelCard("none", "none", "random weights (seed 0)", {}, "", 4, 0), {}, folder, "parquet")
        for first in range(0, rows, PART):
            numbers = range(first, min(first + PART, rows))
            some = [record(n) for n in numbers]
            writer.add(some, [Description(vectors[n % 4]) for n in numbers])
    table = Table(title=f"records of ten hits, index of {rows:,} images", title_justify="left")
    for name in ("", "first s", "second ms", "MB"):
        table.add_column(name, justify="right" if name else "left")
    for how in ("all", "by id"):
        command = [sys.executable, __file__, "--records", how, "--index", str(folder)]
        first, second, memory = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        table.add_row(how, f"{float(first):.2f}", f"{1000 * float(second):.1f}", f"{float(memory):.0f}")
    return table


def record(number: int) -> ImageRecord:
    """A record as extract writes it."""
    path = f"folder {number % 997:03d}/photo {number:07d}.jpg"
    facts = (640, 480, 100_000, 10**18 + number, f"{number:064x}")
    return ImageRecord(path, path, f"label {number % 5000}", "", None, *facts)


def measure_records(folder: Path, how: str) -> tuple[float, float, float]:
    """Seconds of the first and the second time, and the megabytes that the process grew by."""
    index = Index(folder)
    rows = sum(part.rows for part in index.manifest.parts)
    rng = np.random.default_rng(0)
    wanted = [[record(n).id for n in rng.integers(0, rows, 10).tolist()] for _ in range(2)]
    before, times = resident(), []
    for ids in wanted:
        started = time.perf_counter()
        found = index.find_records(ids) if how == "by id" else [index.records[name] for name in ids]
        times.append(time.perf_counter() - started)
        assert [one.id for one in found] == ids
    return times[0], times[1], resident() - before


def resident() -> float:
    """Megabytes that this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main()
