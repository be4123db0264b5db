"""What waiting threads cost: `relook extract` with threads that sleep (as relook sets it) and threads that spin.

    python benchmarks/waiting.py --images PHOTOS

GNU OpenMP, torch's on Linux, lets a thread that waits for the others spin 300,000 times before it sleeps, unless
OMP_WAIT_POLICY says otherwise. Where something else runs on the cores, what it waits for cannot run meanwhile. Both
ways are run by turns, on a quiet machine and beside as many busy processes as there are cores; medians are printed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SLEEP = {"OMP_WAIT_POLICY": "PASSIVE"}
SPIN = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "300000"}  # what it is where nothing is set


def main() -> None:
    """Run by turns; print one line per load."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--images", type=Path, required=True, help="some 80 photos: with few, the start is all there is"
    )
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    for busy in (0, os.cpu_count() or 1):
        with beside(busy):
            pairs = [(extract(options.images, SLEEP), extract(options.images, SPIN)) for _ in range(options.runs)]
        sleep, spin = (statistics.median(values) for values in zip(*pairs, strict=True))
        print(f"{busy} busy processes: sleeping {sleep:6.1f} s, spinning {spin:6.1f} s, {spin / sleep:.2f} times")


def extract(images: Path, variables: dict[str, str]) -> float:
    """Seconds of one extraction into a new index, with what its start takes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    with tempfile.TemporaryDirectory() as folder:
        verb = [sys.executable, str(ROOT / "cli.py"), "extract", "--quiet"]
        command = [*verb, "--images", str(images), "--index", f"{folder}/index"]
        started = time.monotonic()
        subprocess.run(command, check=True, capture_output=True, env={**kept, **variables})
        return time.monotonic() - started


@contextmanager
def beside(busy: int) -> Iterator[None]:
    """So many processes that do nothing but take time."""
    processes = [multiprocessing.Process(target=turn, daemon=True) for _ in range(busy)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def turn() -> None:
    """Until killed."""
    while True:
        pass


if __name__ == "__main__":
    main()
