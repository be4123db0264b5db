"""How searching, verifying, unchanged reindexing and `duplicates` grow with the number of images.

    python benchmarks/growth.py [--sizes 1000 10000 100000 1000000] [--json FILE]

Synthetic indexes with one small file per image and 1,280 values each, as `reindex.py` makes them. "first query" opens
the table and searches it in its files, "second query" reads all vectors into memory and searches there, "later query"
finds them there: three queries of one process, without its start-up. "one copy" reads the bytes of the vectors' files
by both cores, 2 MB at a time, and is the limit of the first query. Verbs are whole processes; `search` is for an image
of the index (`--id`) with the default reranker, so that no photo is described. CPU seconds, the least of `--repeat`
runs. The exponent e, cost ~ images^e, is that between the two largest sizes. `duplicates` compares all pairs and is
left out above `--pairs` images.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

from measuring import Claim, relook, run_process, write_json
from reindex import build

QUERIES = """
import json, resource, sys, time, numpy as np
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pipeline.stores import TableStore
query = np.eye(1, 1280, dtype=np.float32)

def copy(path):
    buffer = bytearray(2 << 20)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass

def taken(work):
    started = time.process_time()
    work()
    return time.process_time() - started

def copies():
    with ThreadPoolExecutor() as pool:
        list(pool.map(copy, Path(sys.argv[1], "globals").iterdir()))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3

store = TableStore.open(Path(sys.argv[1]))
found = {"one copy": taken(copies)}
found["first query"], few = taken(lambda: store.query(query, 100)), peak()
found["second query"] = taken(lambda: store.query(query, 100))
found["later query"] = min(taken(lambda: store.query(query, 100)) for _ in range(5))
print(json.dumps([found, few, peak()]))
"""
# Beside "after": what one would do else, and what cannot be had for less.
FIRST, SECOND, LIMIT = "first query", "second query", "one copy"


def main() -> None:
    """Measure every size, print one line each, write all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    curves: dict[str, list[tuple[int, float]]] = {}
    for size in sorted(options.sizes):
        with tempfile.TemporaryDirectory() as folder:
            build(Path(folder), size, 0)
            found, peaks = queries(Path(folder), options.repeat)
            found |= verbs(Path(folder), options.repeat, pairs=size <= options.pairs)
        print(f"{size:>9,} images:", ", ".join(f"{name} {value:.3f} s" for name, value in found.items()), flush=True)
        for name, value in found.items():
            curves.setdefault(name, []).append((size, value))
    exponents = {name: exponent(points) for name, points in curves.items() if len(points) > 1}
    for name, value in exponents.items():
        print(f"{name}: images ^ {value:.2f}")
    write_json(options.json, claims_of(curves, peaks), curves=curves, exponents=exponents)


def queries(home: Path, repeat: int) -> tuple[dict[str, float], tuple[float, float]]:
    """The least CPU seconds of each query, and the peaks in MB after the first and after the last."""
    command = [sys.executable, "-c", QUERIES, str(home / "index")]
    runs = [json.loads(run_process(command).output) for _ in range(repeat)]
    return {name: min(run[0][name] for run in runs) for name in runs[0][0]}, (runs[0][1], runs[0][2])


def verbs(home: Path, repeat: int, *, pairs: bool) -> dict[str, float]:
    """The least CPU seconds of each verb."""
    index, config = str(home / "index"), str(home / "prod.yaml")
    commands = {
        "search --id": relook("search", "--index", index, "--id", "000/0000001.jpg", "--json"),
        "verify": relook("verify", "--index", index, "--json"),
        "unchanged reindex": relook("reindex", "--config", config, "--json"),
    }
    if pairs:
        commands["duplicates"] = relook("duplicates", "--index", index, "--json")
    return {name: min(run_process(words).cpu for _ in range(repeat)) for name, words in commands.items()}


def claims_of(curves: dict[str, list[tuple[int, float]]], peaks: tuple[float, float]) -> list[Claim]:
    """The largest size of each operation; the first query beside one that loads, and with its limit."""
    most = {name: points[-1] for name, points in curves.items()}
    loads = "all vectors into memory first"
    claims = [Claim(f"peak of the {FIRST}, {most[FIRST][0]:,} images", "MB", peaks[0], peaks[1], None, loads)]
    for name, (size, seconds) in most.items():
        first = name == FIRST
        before, limit = (most[SECOND][1], most[LIMIT][1]) if first else (None, None)
        claims.append(Claim(f"{name}, {size:,} images", "CPU s", seconds, before, limit, loads if first else ""))
    return claims


def exponent(points: list[tuple[int, float]]) -> float:
    """Of the growth between the two largest sizes."""
    (small, before), (large, after) = points[-2:]
    return math.log(after / before) / math.log(large / small)


if __name__ == "__main__":
    main()
