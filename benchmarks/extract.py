"""What describing costs beside the bare network: shares of CPU time, and whole runs of `extract`.

    python benchmarks/extract.py [--images FOLDER] [--photos 64] [--json FILE]

Shares are CPU seconds of one thread: reading and decoding, preparing at every scale, the describer, and, beside it, the
compiled network alone on the same batches in memory. Both take turns, the least of `--repeat` counts. Whole runs are
processes over the same photos with the runtimes in turn: CPU seconds with start-up and export, and those of twice as
many photos less those, which is what further photos cost; and the peak memory of both. `--large N` adds the peak of a
run over N photos.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measuring import ROOT, Claim, relook, run_process, take_turns, write_json

RUNTIMES = ("torch", "onnxruntime")
# Each process may use one core, so that CPU seconds are not those of waiting threads.
ONE_CORE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def main() -> None:
    """Measure both, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=ROOT / "data" / "samples" / "images")
    parser.add_argument("--photos", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--large", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=["shares", "runs"], choices=["shares", "runs"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    photos = sorted(options.images.rglob("*.jpg"))
    claims: list[Claim] = []
    if "shares" in options.only:
        claims += shares(photos[: min(24, options.photos)], options.repeat)
    if "runs" in options.only:
        claims += runs(photos, options.photos)
    if options.large:
        claims.append(peak(photos, options.large))
    for claim in claims:
        values = (("before", claim.before), ("after", claim.after), ("limit", claim.limit))
        print(f"{claim.what}:", ", ".join(f"{name} {value:.1f}" for name, value in values if value is not None))
    write_json(options.json, claims)


def shares(photos: Sequence[Path], repeat: int) -> list[Claim]:
    """CPU milliseconds of one thread per photo, step by step."""
    from pipeline.config import parse_config
    from pipeline.describe.cores import use_one_core
    from pipeline.describe.packaged_describer import PackagedDescriber
    from pipeline.imaging import read_image

    use_one_core()
    describer: Any = PackagedDescriber(parse_config({"describe": {}}, "benchmark").describe)
    files = [read_image(photo, icc=describer.icc) for photo in photos]
    prepared = [describer.prepare(file.pixels) for file in files]
    describer.fit([[one] for one in prepared])
    shapes: dict[Any, list[Any]] = defaultdict(list)
    for one in prepared:
        shapes[one.shape].append(one)
    batches = [group[first : first + 2] for group in shapes.values() for first in range(0, len(group), 2)]
    session, names = describer._session, describer._outputs
    inputs = [
        describer._normalise([item.pixels[number] for item in batch])
        for batch in batches
        for number in range(len(batch[0].pixels))
    ]
    taken = take_turns(
        {
            "read and decode": lambda: [read_image(photo, icc=describer.icc) for photo in photos],
            "prepare": lambda: [describer.prepare(file.pixels) for file in files],
            "describe": lambda: [describer.describe(batch) for batch in batches],
            "network": lambda: [session.run(images, names) for images in inputs],
        },
        repeat,
    )
    cpu = {name: 1000 * value.cpu / len(photos) for name, value in taken.items()}
    whole = cpu["read and decode"] + cpu["prepare"] + cpu["describe"]
    unit = "ms of CPU a photo"
    return [
        Claim("read and decode", unit, cpu["read and decode"]),
        Claim("prepare at three scales", unit, cpu["prepare"]),
        Claim("describe beside the compiled network alone", unit, cpu["describe"], None, cpu["network"]),
        Claim("read, prepare and describe beside the compiled network alone", unit, whole, None, cpu["network"]),
    ]


def runs(photos: Sequence[Path], count: int) -> list[Claim]:
    """Whole processes with both runtimes, by turns."""
    taken = {(name, size): extract(photos, size, name) for size in (count, 2 * count) for name in RUNTIMES}
    cpu = {key: value[0] for key, value in taken.items()}
    more = {name: 1000 * (cpu[name, 2 * count] - cpu[name, count]) / count for name in RUNTIMES}
    return [
        Claim(
            f"extract of {2 * count} photos, whole process",
            "CPU s",
            cpu["onnxruntime", 2 * count],
            cpu["torch", 2 * count],
            beside="torch",
        ),
        Claim("extract, each further photo", "ms of CPU", more["onnxruntime"], more["torch"], beside="torch"),
        Claim(
            f"peak memory of extract, {2 * count} photos",
            "MB",
            taken["onnxruntime", 2 * count][1],
            taken["torch", 2 * count][1],
            800.0,
            "torch",
        ),
    ]


def peak(photos: Sequence[Path], count: int) -> Claim:
    """The peak memory of a run over many photos."""
    return Claim(f"peak memory of extract, {count:,} photos", "MB", extract(photos, count, "auto")[1], None, 800.0)


def extract(photos: Sequence[Path], count: int, runtime: str) -> tuple[float, float]:
    """CPU seconds and peak MB of a process over `count` photos, which are repeated where there are fewer."""
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "photos")
        images.mkdir()
        for number in range(count):
            source = photos[number % len(photos)]
            (images / f"{number:06}.jpg").symlink_to(os.path.realpath(source))
        words = ["extract", "--images", str(images), "--index", f"{folder}/index", "--json", "--quiet"]
        settings = [f"describe.runtime={runtime}", "device=cpu"]
        done = run_process(relook(*words, *(word for one in settings for word in ("--set", one))), ONE_CORE)
        assert json.loads(done.output)["images"] == count
    return done.cpu, done.peak_mb


if __name__ == "__main__":
    main()
