"""The sample photos: enough of them, small enough, and made by the script that says so."""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "data" / "samples"


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with (SAMPLES / "manifest.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_there_are_enough_and_they_are_small(rows: list[dict[str, str]]) -> None:
    views = Counter(row["label"] for row in rows)
    assert views.pop("") >= 60
    assert len(views) >= 24
    assert min(views.values()) >= 8
    assert sum((SAMPLES / row["path"]).stat().st_size for row in rows) <= 6_000_000
    assert {path.relative_to(SAMPLES).as_posix() for path in SAMPLES.rglob("*.jpg")} == {row["path"] for row in rows}


def test_an_instance_is_in_one_split(rows: list[dict[str, str]]) -> None:
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["label"], set()).add(row["split"])
    assert splits.pop("") == {"train", "val"}
    assert all(len(found) == 1 for found in splits.values())


@pytest.mark.parametrize(("label", "number"), [("vase_b", 3), ("", 7)])
def test_the_script_makes_the_same_picture_again(label: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "data"))
    from make_samples import render_sample

    name = label or "distractor"
    kept = np.asarray(Image.open(SAMPLES / "images" / name / f"{name}_{number:02d}.jpg"), dtype=np.int16)
    made = np.asarray(Image.open(io.BytesIO(render_sample(label, number))), dtype=np.int16)
    assert made.shape == kept.shape
    # Another processor or numpy may round otherwise: a grain of noise here and there, never another picture.
    assert np.abs(made - kept).mean() < 1
    sys.modules.pop("make_samples", None)
