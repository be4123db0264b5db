"""How opening, searching, verifying, unchanged reindexing and `duplicates` grow with the number of images.

    python benchmarks/growth.py [--sizes 1000 10000 100000 1000000] [--json FILE]

Synthetic indexes with one small file per image and 1,280 values each, as `reindex.py` makes them. "open" reads all
vectors and answers the first query, "search" is a later query, both in a process of their own without start-up; verbs
are whole processes. CPU seconds, the least of `--repeat` runs. The exponent e, cost ~ images^e, is that between the two
largest sizes. `duplicates` compares all pairs and is left out above `--pairs` images.
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

OPEN = """
import json, sys, time, numpy as np
from pathlib import Path
from pipeline.stores import TableStore
query = np.eye(1, 1280, dtype=np.float32)
started = time.process_time()
store = TableStore.open(Path(sys.argv[1]))
store.query(query, 100)
opened = time.process_time()
for _ in range(5):
    store.query(query, 100)
print(json.dumps([opened - started, (time.process_time() - opened) / 5]))
"""


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
            found = measured(Path(folder), options.repeat, pairs=size <= options.pairs)
        print(f"{size:>9,} images:", ", ".join(f"{name} {value:.3f} s" for name, value in found.items()), flush=True)
        for name, value in found.items():
            curves.setdefault(name, []).append((size, value))
    exponents = {name: exponent(points) for name, points in curves.items() if len(points) > 1}
    for name, value in exponents.items():
        print(f"{name}: images ^ {value:.2f}")
    claims = [Claim(f"{name}, {points[-1][0]:,} images", "CPU s", points[-1][1]) for name, points in curves.items()]
    write_json(options.json, claims, curves=curves, exponents=exponents)


def measured(home: Path, repeat: int, *, pairs: bool) -> dict[str, float]:
    """The least CPU seconds of each operation."""
    index, config = str(home / "index"), str(home / "prod.yaml")
    opened = [json.loads(run_process([sys.executable, "-c", OPEN, index]).output) for _ in range(repeat)]
    found = {"open": min(run[0] for run in opened), "search": min(run[1] for run in opened)}
    verbs = {
        "verify": relook("verify", "--index", index, "--json"),
        "unchanged reindex": relook("reindex", "--config", config, "--json"),
    }
    if pairs:
        verbs["duplicates"] = relook("duplicates", "--index", index, "--json")
    for name, command in verbs.items():
        found[name] = min(run_process(command).cpu for _ in range(repeat))
    return found


def exponent(points: list[tuple[int, float]]) -> float:
    """Of the growth between the two largest sizes."""
    (small, before), (large, after) = points[-2:]
    return math.log(after / before) / math.log(large / small)


if __name__ == "__main__":
    main()
