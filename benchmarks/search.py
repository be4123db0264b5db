"""The built-in table beside FAISS, its memory, what float16 changes, and how fast CSV is read.

    python benchmarks/search.py [--sizes 10000 100000 1000000] [--dimensions 512 2048] [--only exact memory csv]

Vectors lie in clusters, as descriptors do. Both searches take turns in one process with the same threads; of each the
best of `--repeat` counts. "CPU" is the ratio of CPU seconds, which other work on the machine changes less. "Of the
limit": for one query the bytes that must be read, divided by the time and by what a sum over the same array reaches;
for 64 the multiplications, divided by the time and by what one large matrix product reaches. Needs faiss-cpu, pandas
and polars: pip install 'relook[bench]'. `--json FILE` writes the figures.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Claim, take_turns, write_json
from rich.console import Console
from rich.table import Table

from pipeline.stores import IndexWriter, TableStore
from pipeline.stores.exact.search import FlatVectors
from pipeline.stores.index.tables import GLOBALS_SCHEMA, read_globals, read_table, write_globals
from pipeline.types import FloatArray, ModelCard

TOP_K = 100
BATCHES = (1, 64)
PART = 16384
console = Console(width=130)


def main() -> None:
    """Measure the requested cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[512])
    parser.add_argument("--only", nargs="+", default=["exact", "memory", "csv"], choices=["exact", "memory", "csv"])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--csv-rows", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--opened", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--queries", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.opened is not None:
        print(open_and_search(arguments.opened, arguments.precision, arguments.queries))
        return
    if "exact" in arguments.only:
        claims: list[Claim] = []
        console.print(exact(arguments.sizes, arguments.dimensions, arguments.repeat, claims))
        write_json(arguments.json, claims)
    if "memory" in arguments.only:
        console.print(memory(max(arguments.sizes), arguments.dimensions[0]))
    if "csv" in arguments.only:
        console.print(csv(arguments.csv_rows, 512))


def clustered(count: int, dimension: int, seed: int = 0) -> FloatArray:
    """Unit vectors around one centre in 200, with cosines of about 0.7 to it, as views of one thing have."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, count // 200), dimension), dtype=np.float32)
    vectors = np.empty((count, dimension), np.float32)
    for first in range(0, count, PART):
        part = vectors[first : first + PART]
        rng.standard_normal(out=part, dtype=np.float32)
        part += centres[rng.integers(0, len(centres), len(part))]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def exact(sizes: Sequence[int], dimensions: Sequence[int], repeat: int, claims: list[Claim]) -> Table:
    """Seconds per batch of both searches, and how far from the machine's limit; `claims` gets the CPU seconds."""
    import faiss

    faiss.omp_set_num_threads(os.cpu_count() or 1)
    made = Table(title=f"exact search, top {TOP_K}, {os.cpu_count()} cores", title_justify="left")
    for heading in (
        "vectors",
        "batch",
        "FAISS s",
        "relook s",
        "ratio",
        "CPU",
        "float16 s",
        "CPU",
        "of the limit",
        "FAISS",
        "ids equal",
        "float16 ids",
    ):
        made.add_column(heading, justify="right")
    for dimension in dimensions:
        for size in sizes:
            vectors = clustered(size, dimension)
            other = faiss.IndexFlatIP(dimension)
            other.add(vectors)
            rank = np.arange(size, dtype=np.int32)
            tables = FlatVectors(vectors, rank), FlatVectors(vectors.astype(np.float16), rank)
            for batch in BATCHES:
                made.add_row(f"{size:,} x {dimension}", str(batch), *compared(other, *tables, batch, repeat, claims))
    return made


def compared(
    other: Any, table: FlatVectors, half: FlatVectors, batch: int, repeat: int, claims: list[Claim]
) -> list[str]:
    """The cells of one row."""
    vectors = table.vectors
    size, dimension = vectors.shape
    queries = vectors[:: max(1, size // batch)][:batch] + clustered(batch, dimension, 1) * np.float32(0.5)
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    double = queries.astype(np.float64)
    square = np.ones((2048, 2048), np.float32)
    limit: Callable[[], Any] = vectors.sum if batch == 1 else lambda: square @ square
    taken = take_turns(
        {
            "faiss": lambda: other.search(queries, TOP_K),
            "float32": lambda: table.nearest(double, TOP_K),
            "float16": lambda: half.nearest(double, TOP_K),
            "limit": limit,
        },
        repeat,
    )
    scale = 1.0 if batch == 1 else size * batch * dimension / 2048**3
    for name in ("float32", "float16"):
        what = f"search of {size:,} x {dimension}, {name}, {batch} at once"
        least = 1000 * scale * taken["limit"].cpu
        cpu = {key: 1000 * value.cpu for key, value in taken.items()}
        claims.append(Claim(what, "ms of CPU", cpu[name], cpu["faiss"], least, "FAISS"))
    seconds = [taken[name].seconds for name in ("faiss", "float32", "float16", "limit")]
    least = scale * seconds[3]
    found = [set(rows.tolist()) for rows, _ in table.nearest(double, TOP_K)]
    return [
        *(f"{value:.4f}" for value in seconds[:2]),
        f"{seconds[0] / seconds[1]:.1f}x",
        f"{taken['faiss'].cpu / taken['float32'].cpu:.2f}x",
        f"{seconds[2]:.4f}",
        f"{taken['faiss'].cpu / taken['float16'].cpu:.2f}x",
        *(f"{100 * least / value:.0f} %" for value in (seconds[1], seconds[0])),
        f"{shared(found, other.search(queries, TOP_K)[1].tolist()):.2f} %",
        f"{shared(found, [rows.tolist() for rows, _ in half.nearest(double, TOP_K)]):.2f} %",
    ]


def shared(found: Sequence[set[int]], others: Sequence[Sequence[int]]) -> float:
    """Percent of the answers that are also the other's."""
    return 100 * float(np.mean([len(one & set(other)) / len(one) for one, other in zip(found, others, strict=True)]))


def memory(size: int, dimension: int) -> Table:
    """The peak of a process that opens a store and searches it, less that of one that opens an almost empty one."""
    made = Table(title=f"opening {size:,} x {dimension} and searching", title_justify="left")
    for heading in (
        "precision",
        "queries",
        "vectors MB",
        "peak MB above an almost empty store",
        "ratio",
        "CPU seconds",
    ):
        made.add_column(heading, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        write_index(Path(folder, "large"), size, dimension)
        write_index(Path(folder, "small"), 300, dimension)
        for precision, width, queries in (("float32", 4, 1), ("float32", 4, 2), ("float16", 2, 1)):
            runs = (run_open(Path(folder, name), precision, queries) for name in ("small", "large"))
            (_, base), (seconds, most) = runs
            size_mb = size * dimension * width / 1e6
            taken = most - base
            cells = (f"{size_mb:.0f}", f"{taken:.0f}", f"{taken / size_mb:.3f}", f"{seconds:.1f}")
            made.add_row(precision, str(queries), *cells)
    return made


def write_index(directory: Path, size: int, dimension: int) -> None:
    """An index whose ids and metadata are as long as those of a collection in folders."""
    card = ModelCard("bench", "none", "random weights (seed 0)", {}, "", dimension, 0)
    with IndexWriter(directory) as writer:
        writer.begin(card, {}, Path("/photos"), "parquet")
        for first in range(0, size, PART):
            vectors = clustered(min(PART, size - first), dimension, first)
            ids = [f"collection/thing {row // 40:06d}/{row:09d}.jpg" for row in range(first, first + len(vectors))]
            metadata = [{"label": f"thing {row // 40:06d}", "path": name, "split": ""} for row, name in enumerate(ids)]
            writer.add_vectors(ids, vectors, metadata)


def run_open(directory: Path, precision: str, queries: int) -> tuple[float, float]:
    """CPU seconds, and the peak in MB, of a process of its own."""
    command = [sys.executable, __file__, "--opened", str(directory), "--precision", precision]
    command += ["--queries", str(queries)]
    seconds, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(seconds), float(peak)


def open_and_search(directory: Path, precision: Any, queries: int) -> str:
    """CPU seconds to open and search, the first query in the files, and the peak in MB, of this process."""
    store = TableStore.open(directory, precision=precision)
    query = clustered(1, store.stats()["dimension"])
    started = time.process_time()
    for _ in range(queries):
        names = store.query(query, TOP_K)[0][0]
    seconds = time.process_time() - started
    store.fetch(names)
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return f"{seconds:.2f} {int(peak.split()[1]) * 1024 / 1e6:.1f}"


def csv(rows: int, dimension: int) -> Table:
    """Seconds to read one CSV of ids, bracketed vectors and words into an array."""
    import pandas as pd
    import polars as pl

    made = Table(title=f"reading a CSV of {rows:,} x {dimension}", title_justify="left")
    for heading in ("reader", "seconds", "MB/s", "values equal"):
        made.add_column(heading, justify="left" if heading == "reader" else "right")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "vectors.csv")
        vectors = clustered(rows, dimension)
        write_globals(path, [f"{row:09d}" for row in range(rows)], vectors, [{"label": "x"}] * rows)

        def by_pandas() -> FloatArray:
            texts = pd.read_csv(path)["values"]
            return np.stack([np.array(text[1:-1].split(","), np.float32) for text in texts])

        def by_polars() -> FloatArray:
            words = pl.read_csv(path)["values"].str.strip_chars("[] ").str.split(",")
            return words.list.eval(pl.element().cast(pl.Float32)).explode().to_numpy().reshape(rows, dimension)

        def by_pyarrow() -> FloatArray:
            values = read_table(path, GLOBALS_SCHEMA)["values"].combine_chunks()
            return np.stack(values.to_numpy(zero_copy_only=False))

        readers: dict[str, Callable[[], FloatArray]] = {
            "relook": lambda: read_globals(path, dimension).vectors,
            "relook's table by pyarrow, row by row": by_pyarrow,
            "polars, split and cast": by_polars,
            "pandas, row by row": by_pandas,
        }
        for name, read in readers.items():
            started = time.perf_counter()
            read_back = read()
            seconds = time.perf_counter() - started
            equal = bool((read_back == vectors).all())
            made.add_row(name, f"{seconds:.2f}", f"{path.stat().st_size / 1e6 / seconds:.0f}", str(equal))
    return made


if __name__ == "__main__":
    main()
