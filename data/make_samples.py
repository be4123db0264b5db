"""Makes the sample pictures: instances seen from many sides, and distractors, with a manifest.

Run by hand when a scene changes; the pictures are kept in the repository and feed the demo and the tests.
Technique: ray-cast procedural scenes (data/sample_scenes), every random choice named after its picture.
"""

from __future__ import annotations

import argparse
import csv
import io
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from sample_scenes.catalog import DISTRACTORS, FAMILY_OF, LABELS, VAL_FAMILIES, VIEWS_EACH
from sample_scenes.views import render_distractor, render_view

QUALITY = 80


class Sample(NamedTuple):
    """One picture: an instance's label ("" for a distractor), its number and its split."""

    label: str
    number: int
    split: str

    @property
    def path(self) -> str:
        name = self.label or "distractor"
        return f"images/{name}/{name}_{self.number:02d}.jpg"


def samples() -> Iterator[Sample]:
    """Every picture in the manifest's order; a third of the instances and of the distractors is in val."""
    for label in LABELS:
        split = "val" if FAMILY_OF[label] in VAL_FAMILIES else "train"
        for number in range(VIEWS_EACH):
            yield Sample(label, number, split)
    for number in range(DISTRACTORS):
        yield Sample("", number, "val" if number % 3 == 2 else "train")


def render_sample(label: str, number: int) -> bytes:
    """The JPEG file of one picture; an empty label asks for a distractor."""
    image = render_view(label, number) if label else render_distractor(number)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def make_samples(out: Path, processes: int = 1) -> int:
    """Rewrite all pictures and manifest.csv under `out`; returns the number of bytes of the pictures."""
    shutil.rmtree(out / "images", ignore_errors=True)
    todo = list(samples())
    total = 0
    with ProcessPoolExecutor(processes) as pool:
        files = pool.map(render_sample, [s.label for s in todo], [s.number for s in todo], chunksize=VIEWS_EACH)
        for sample, file in zip(todo, files, strict=True):
            path = out / sample.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file)
            total += len(file)
    with (out / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["path", "label", "split"])
        writer.writerows((s.path, s.label, s.split) for s in todo)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description="Rewrite the sample pictures and their manifest.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "samples")
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    total = make_samples(args.out, args.processes)
    print(f"{sum(1 for _ in samples())} pictures, {total / 1e6:.2f} MB, in {args.out}")


if __name__ == "__main__":
    main()
