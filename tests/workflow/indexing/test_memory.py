"""The memory of `extract` does not grow with the number of photos, and stays below its bound."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from photos import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from measuring import relook, run_process

pytestmark = pytest.mark.slow


def peak(folder: Path, count: int) -> float:
    """Peak MB of a process over `count` photos, which are links to a few."""
    samples = sorted((ROOT / "data" / "samples" / "images").rglob("*.jpg"))
    photos = folder / f"{count} photos"
    photos.mkdir()
    for number in range(count):
        (photos / f"{number:04}.jpg").symlink_to(samples[number % len(samples)])
    words = ["extract", "--images", str(photos), "--index", str(folder / f"{count}"), "--json", "--quiet"]
    settings = ["describe.image.size=96", "describe.fit_images=32", "device=cpu"]
    return run_process(relook(*words, *(word for one in settings for word in ("--set", one)))).peak_mb


@pytest.mark.skipif(sys.platform != "linux", reason="measures the resident memory of Linux")
def test_the_peak_of_four_times_the_photos_is_little_higher(tmp_path: Path) -> None:
    small, large = peak(tmp_path, 64), peak(tmp_path, 256)
    assert large < 800
    assert large - small < 100, (small, large)
