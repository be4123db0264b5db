"""What the tests of README, docs and help share: a user's folder of photos."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from doc_commands import ROOT

from pipeline.checkpoints import write_official
from pipeline.rerank.rrt.network import RRTNetwork, RRTShape

SAMPLES = ROOT / "data" / "samples"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: `photos/` with `labels.csv`, `photo.jpg` to search with, `other.jpg` of the same thing,
    `configs/`, weights of RRT as its authors release them in `rrt.pt`, and `vectors.csv` from elsewhere."""
    folder = tmp_path_factory.mktemp("home")
    write_official(folder / "rrt.pt", RRTNetwork(RRTShape(64, 32, 4, 1, 64)).state_dict(), "state")
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "photos").mkdir()
    nightly = "index: nightly\ncatalog: {images: photos}\ndescribe: {image: {size: 96}}\n"
    (folder / "prod.yaml").write_text(nightly)
    with (SAMPLES / "manifest.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    labels = [label for label in dict.fromkeys(row["label"] for row in rows) if label][:8]
    kept = [["path", "label"]]
    for row in rows:
        if row["label"] in labels and int(Path(row["path"]).stem[-2:]) < 5:
            shutil.copy(SAMPLES / row["path"], folder / "photos")
            kept.append([Path(row["path"]).name, row["label"]])
    with (folder / "photos" / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(kept)
    shutil.copy(folder / "photos" / kept[1][0], folder / "photo.jpg")
    shutil.copy(folder / "photos" / kept[2][0], folder / "other.jpg")
    vectors = np.eye(len(kept) - 1).tolist()
    with (folder / "vectors.csv").open("w", newline="") as stream:
        rows = [[path, vector, label] for (path, label), vector in zip(kept[1:], vectors, strict=True)]
        csv.writer(stream).writerows([["vecid", "vectors", "labels"], *rows])
    return folder
