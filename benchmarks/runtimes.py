"""What runs the describer's network: torch, ONNX Runtime and OpenVINO on the same batches; and a cold search.

OpenVINO in bfloat16 too, where the processor has its instructions.

    python benchmarks/runtimes.py

The default describer at its three scales, on the sample photos, decoded and prepared before: one thread per network,
one network per core, as `extract` runs them. The runtimes take turns; the least CPU milliseconds a photo of some runs,
how many times torch takes in the same run, and the largest cosine distance to torch. `--search INDEX PHOTO` measures
`relook search` in a process of its own instead, with what the index carries and with torch, by turns. `--json FILE`
writes the figures.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from measuring import Claim, write_json

ROOT = Path(__file__).resolve().parents[1]
# Name, `describe.runtime` and `describe.precision`.
RUNTIMES = (
    ("torch", "torch", "float32"),
    ("onnxruntime", "onnxruntime", "float32"),
    ("openvino", "openvino", "float32"),
    ("openvino, bfloat16", "openvino", "bfloat16"),
)


def main() -> None:
    """Print one line per runtime."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=ROOT / "data" / "samples" / "images")
    parser.add_argument("--photos", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--search", nargs=2, metavar=("INDEX", "PHOTO"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.search:
        found = searches(*options.search, options.runs)
    else:
        found = describers(sorted(options.images.rglob("*.jpg"))[: options.photos], options.runs)
    for name, values in found.items():
        print(f"{name:18s}", "  ".join(f"{key} {value:.4g}" for key, value in values.items()))
    verb, unit = ("search by", "CPU s a process") if options.search else ("describe by", "ms of CPU a photo")
    figures = {name: values["cpu"] for name, values in found.items()}
    claims = [
        Claim(f"{verb} {name}", unit, value, figures["torch"], beside="torch")
        for name, value in figures.items()
        if name != "torch"
    ]
    write_json(options.json, claims, runs=found)


def describers(photos: Sequence[Path], runs: int) -> dict[str, dict[str, float]]:
    """CPU milliseconds a photo of each runtime that is installed, and the distance of its descriptors to torch's."""
    from importlib import util

    from pipeline.describe import load_describer
    from pipeline.describe.cores import use_one_core
    from pipeline.imaging import read_image

    made: dict[str, Any] = {
        name: load_describer("efficientnet_lite0", runtime=runtime, precision=precision)
        for name, runtime, precision in RUNTIMES
        if util.find_spec(runtime) and (precision == "float32" or _has_bfloat16())
    }
    names = list(made)
    pixels = [read_image(photo).pixels for photo in photos]
    prepared = [made["torch"].prepare(one) for one in pixels]
    made["torch"].fit([[one] for one in prepared])
    for describer in made.values():
        if describer is not made["torch"]:
            describer.use_fitted(made["torch"].fitted())
    seconds: dict[str, list[float]] = {name: [] for name in names}
    vectors: dict[str, list[Any]] = {}
    with ThreadPoolExecutor(os.cpu_count(), initializer=use_one_core) as pool:
        for run in range(runs + 1):
            for name in names:
                started = time.process_time()
                vectors[name] = list(pool.map(lambda one, name=name: made[name].describe([one])[0].vector, prepared))
                if run:  # the first one opens the session
                    seconds[name].append(time.process_time() - started)
    spent = {name: 1000 * min(values) / len(photos) for name, values in seconds.items()}
    return {
        name: {
            "cpu": spent[name],
            "ratio": spent["torch"] / spent[name],
            "distance": max(
                1 - float(mine.astype(float) @ theirs.astype(float))
                for mine, theirs in zip(vectors[name], vectors["torch"], strict=True)
            ),
        }
        for name in names
    }


def _has_bfloat16() -> bool:
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def searches(index: str, photo: str, runs: int) -> dict[str, dict[str, float]]:
    """Seconds, CPU seconds and peak MB of a whole search process, with what the index carries and with torch."""
    taken: dict[str, list[tuple[float, float, float]]] = {"carried": [], "torch": []}
    for _ in range(runs):
        for name, values in taken.items():
            runtime = ["--set", "describe.runtime=torch"] if name == "torch" else []
            verb = [sys.executable, str(ROOT / "cli.py"), "search", photo, "--index", index, "--rerank", "superglobal"]
            values.append(_measured([*verb, "--device", "cpu", "--json", *runtime]))
    return {
        name: dict(zip(("seconds", "cpu", "MB"), map(statistics.median, zip(*values, strict=True)), strict=True))
        for name, values in taken.items()
    }


def _measured(command: Sequence[str]) -> tuple[float, float, float]:
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"{' '.join(command)}: failed")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / (1 << 10)


if __name__ == "__main__":
    main()
