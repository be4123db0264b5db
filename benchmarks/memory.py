"""Peak memory and speed of `extract` at two sizes of a collection: memory must not grow with the number of photos.

    python benchmarks/memory.py [--small 500] [--large 5000]

The collection is the sample photos over and over, as hard links. Pictures are described at 96 pixels, so that the run
takes minutes and the share of everything that could grow with their number is the larger; what a picture leaves in the
index (1,280 + 50 x 128 values) is that of the default describer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = sorted((ROOT / "data" / "samples" / "images").rglob("*.jpg"))
SETTINGS = ["describe.image.size=96", "extract.part_size=256"]


def main() -> None:
    """Run `extract` as a process at both sizes and print its peak."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", type=int, default=500)
    parser.add_argument("--large", type=int, default=5000)
    arguments = parser.parse_args()
    table = Table("photos", "peak MB", "images/s", "seconds", title="relook extract", title_justify="left")
    peaks = []
    for count in (arguments.small, arguments.large):
        with tempfile.TemporaryDirectory() as work:
            seconds, peak = extract(Path(work), count)
        peaks.append(peak)
        table.add_row(f"{count:,}", f"{peak:.0f}", f"{count / seconds:.1f}", f"{seconds:.0f}")
    console = Console()
    console.print(table)
    console.print(
        f"{arguments.large / arguments.small:.0f} times the photos: {peaks[1] / peaks[0]:.2f} times the memory"
    )


def extract(work: Path, count: int) -> tuple[float, float]:
    """Seconds that the stage took, and the peak resident memory of its process in MB."""
    photos = work / "photos"
    photos.mkdir()
    for number in range(count):
        source = SAMPLES[number % len(SAMPLES)]
        try:
            os.link(source, photos / f"{number:05}.jpg")
        except OSError:  # another file system
            (photos / f"{number:05}.jpg").write_bytes(source.read_bytes())
    words = ["extract", "--images", str(photos), "--index", str(work / "index"), "--json", "--quiet"]
    words += [word for setting in SETTINGS for word in ("--set", setting)]
    done = subprocess.Popen([sys.executable, str(ROOT / "cli.py"), *words], stdout=subprocess.PIPE, text=True)
    assert done.stdout is not None
    document = json.loads(done.stdout.read())
    _, status, usage = os.wait4(done.pid, 0)
    assert status == 0
    return document["seconds"], usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


if __name__ == "__main__":
    main()
