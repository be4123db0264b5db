"""Approximate indexes beside an exact search: recall, latency, build time, bytes on disk and in memory; kills.

    python benchmarks/ann.py [--vectors 100000] [--dimension 512] [--only NAME...] [--folder DIR] [--threads 1]
    python benchmarks/ann.py --filters [--vectors 200000]
    python benchmarks/ann.py --kill

Vectors lie in clusters, as descriptors do: kinds hold clusters, a cluster is as wide as it happens to be, and few of
them hold most vectors. Queries are perturbed members. Each contender is built and searched in a process of its own; of
its knob the cheapest setting that reaches the recall is shown, or the last. "ms" is the median of one query at a time,
"CPU ms" the mean of what it took of a core, which other processes do not lengthen. "Anonymous" is memory of the process
alone, "mapped" lies in the page cache, which the system may take back.
Needs faiss-cpu, usearch and lancedb: pip install 'relook[bench]'. A library that is missing is left out, and said.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
from ann_contenders import CONTENDERS
from ann_filters import filters_and_batches
from ann_kill import kill_all
from rich.console import Console
from rich.table import Table

TOP_K = 100
QUERIES = 200
console = Console(width=150)


def main() -> None:
    """Measure the requested cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--only", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--recall", type=float, default=0.98)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="for the files; they are removed")
    parser.add_argument("--filters", action="store_true", help="relook's store alone, under filters and for batches")
    parser.add_argument("--kill", action="store_true", help="kill writers instead, and see what they leave")
    arguments = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": str(arguments.threads), "RAYON_NUM_THREADS": str(arguments.threads)}
    os.environ |= {"RUST_LOG": "error", "OMP_WAIT_POLICY": "PASSIVE"}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if arguments.kill:
            kill_all(Path(folder))
        elif arguments.filters:
            make_vectors(Path(folder), arguments.vectors, arguments.dimension)
            filters_and_batches(Path(folder), console)
        else:
            compare(Path(folder), arguments)


def compare(folder: Path, arguments: argparse.Namespace) -> None:
    """Every contender on the same vectors."""
    make_vectors(folder, arguments.vectors, arguments.dimension)
    table = Table(
        "",
        "recall@100",
        "worst tenth",
        "ms",
        "95 %",
        "CPU ms",
        "knob",
        "build s",
        "CPU s",
        "disk MB",
        title=(f"{arguments.vectors:,} x {arguments.dimension}, clustered; {arguments.threads} thread(s)"),
    )
    for heading in ("anonymous MB", "mapped MB"):
        table.add_column(heading)
    for name in arguments.only:
        row = [name]
        try:
            built = in_process(build, folder, name)
            row += in_process(measure, folder, name, arguments.recall)
            row[7:7] = [f"{built[0]:.0f}", f"{built[1]:.0f}", f"{built[2] / 1e6:.0f}"]
        except (ImportError, BrokenProcessPool) as error:
            row.append(str(error))
        table.add_row(*row)
        console.print(" ".join(row))
        shutil.rmtree(folder / name.replace(" ", "-"), ignore_errors=True)
    console.print(table)


def make_vectors(folder: Path, count: int, dimension: int) -> None:
    """`vectors.npy` [N, D], `queries.npy` [200, D] and `truth.npy` [200, 100]."""
    rng = np.random.default_rng(0)
    kinds = unit(rng.standard_normal((max(8, int(count**0.5)), dimension), dtype=np.float32))
    clusters = max(1, count // 50)
    share = 1 / np.arange(1, clusters + 1) ** 0.8
    which = rng.choice(clusters, count, p=share / share.sum())
    around = unit(rng.standard_normal((clusters, dimension), dtype=np.float32))
    centres = unit(kinds[rng.integers(0, len(kinds), clusters)] + around)
    spread = rng.uniform(0.3, 1, clusters).astype(np.float32)
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (count, dimension))
    for start in range(0, count, 50_000):
        some = which[start : start + 50_000]
        noise = unit(rng.standard_normal((len(some), dimension), dtype=np.float32))
        vectors[start : start + len(some)] = unit(centres[some] + spread[some, None] * noise)
    members = vectors[np.sort(rng.choice(count, QUERIES, replace=False))]
    queries = unit(members + 0.3 * unit(rng.standard_normal(members.shape, dtype=np.float32)))
    best, rows = np.zeros((QUERIES, 0), np.float32), np.zeros((QUERIES, 0), np.int64)
    for start in range(0, count, 50_000):
        scores = np.concatenate([best, queries @ vectors[start : start + 50_000].T], axis=1)
        numbers = np.arange(start, start + scores.shape[1] - best.shape[1])
        both = np.concatenate([rows, np.broadcast_to(numbers, (QUERIES, len(numbers)))], axis=1)
        order = np.argpartition(-scores, TOP_K, axis=1)[:, :TOP_K]
        best, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(both, order, 1)
    np.save(folder / "queries.npy", queries)
    np.save(folder / "truth.npy", rows)


def build(folder: Path, name: str) -> tuple[float, float, int]:
    """Seconds, seconds of all cores, and bytes on disk."""
    place = folder / name.replace(" ", "-")
    contender = CONTENDERS[name](place, np.load(folder / "vectors.npy", mmap_mode="r"))
    started, used = time.perf_counter(), time.process_time()
    contender.build()
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    return time.perf_counter() - started, time.process_time() - used, size


def measure(folder: Path, name: str, recall: float) -> list[str]:
    """The cheapest setting that reaches the recall."""
    contender = CONTENDERS[name](folder / name.replace(" ", "-"), np.load(folder / "vectors.npy", mmap_mode="r"))
    queries, truth = np.load(folder / "queries.npy"), np.load(folder / "truth.npy")
    before = memory()
    contender.open()
    for knob in contender.knobs:
        for query in queries[:20]:
            contender.search(query, TOP_K, knob)
        seconds, shares, used_before = [], [], time.process_time()
        for query, nearest in zip(queries, truth, strict=True):
            started = time.perf_counter()
            rows = contender.search(query, TOP_K, knob)
            seconds.append(time.perf_counter() - started)
            shares.append(len(np.intersect1d(rows, nearest)) / TOP_K)
        worked = (time.process_time() - used_before) / len(queries)
        if np.mean(shares) >= recall:
            break
    used = [after - at_first for after, at_first in zip(memory(), before, strict=True)]
    figures = [f"{np.mean(shares):.4f}", f"{np.quantile(shares, 0.1):.2f}"]
    figures += [f"{np.median(seconds) * 1e3:.2f}", f"{np.quantile(seconds, 0.95) * 1e3:.2f}"]
    figures += [f"{worked * 1e3:.2f}", f"{knob:g}"]
    return figures + [f"{megabytes:.0f}" for megabytes in used]


def memory() -> tuple[float, float]:
    """Megabytes of this process: its own, and mapped from files."""
    status = Path("/proc/self/status").read_text()
    own, mapped = (int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1e3 for name in ("RssAnon", "RssFile"))
    return own, mapped


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def in_process(work: Any, *arguments: Any) -> Any:
    """What `work` returns in a fresh process; an error where that ends by itself."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


if __name__ == "__main__":
    main()
