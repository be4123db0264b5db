"""Training of AMES's detector: its image descriptor against a loop, what it learns on the sample photos, its file."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_helpers import document
from hypothesis import given, settings
from hypothesis import strategies as st
from photos import ROOT
from torch.nn import functional

from pipeline.checkpoints import read_checkpoint
from pipeline.config import load_config
from pipeline.describe import load_describer
from pipeline.describe.detector import Detector
from pipeline.errors import RelookError
from pipeline.stages.convert import convert
from pipeline.stages.extract import extract
from pipeline.stages.train_detector import TrainDetectorResult, dry_run_detector, train_detector
from pipeline.train.data.stored_locals import Side
from pipeline.train.detector.task import (
    describe_maps,
    describe_stored,
    start_as_cells,
    start_as_published,
    stored_maps,
    triplet_loss,
)
from pipeline.workflow.gallery import open_gallery
from pipeline.workflow.training.held_out_retrieval import HeldOutRetrieval

# Maps of 8 x 8 cells of 112 values, from pictures of 128 pixels.
DESCRIBE = [
    *("describe.image.size=128", "describe.globals.scales=[1.0]", "describe.locals.kind=map"),
    *("describe.locals.stage=-2", "describe.locals.scales=[1.0]", "describe.locals.dimension=null"),
]
QUICK = ["train_detector.epochs=3", "train_detector.triplets=640", "train_detector.split=train"]
# Things that are trained on, and others.
TRAINED, OTHERS = 12, 6


@dataclass(frozen=True)
class Trained:
    """An index of maps, a detector that was trained on its split `train`, and what the training said."""

    index: Path
    file: Path
    result: TrainDetectorResult


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("detector")
    index, file = folder / "maps", folder / "detector.safetensors"
    chosen = [f"index={index}", *DESCRIBE, "catalog.outside=allow"]
    extract(load_config(None, chosen), str(manifest_of_samples(folder)))
    return Trained(index, file, train_detector(load_config(None, [*chosen, *QUICK, f"train_detector.out={file}"])))


def manifest_of_samples(folder: Path) -> Path:
    samples = ROOT / "data" / "samples"
    with (samples / "manifest.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["label"]]
    labels = {split: sorted({row["label"] for row in rows if row["split"] == split}) for split in ("train", "val")}
    kept = {*labels["train"][:TRAINED], *labels["val"][:OTHERS]}
    with (folder / "manifest.csv").open("w", newline="") as stream:
        lines = [(samples / row["path"], row["label"], row["split"]) for row in rows if row["label"] in kept]
        csv.writer(stream).writerows([("path", "label", "split"), *lines])
    return folder / "manifest.csv"


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
def test_an_image_is_the_mean_of_its_weighted_cells(images: int, longest: int, channels: int, seed: int) -> None:
    """Each cell alone, padding left out; and batch statistics are those of the real cells."""
    torch.manual_seed(seed)
    detector = Detector(channels).eval()
    start_as_published(detector)
    cells = torch.randn(images, longest, channels)
    lengths = torch.randint(1, longest + 1, (images,))
    padding = torch.arange(longest) >= lengths[:, None]
    with torch.no_grad():
        found = describe_maps(detector, Side(cells.masked_fill(padding[..., None], 99.0), padding))
        for number in range(images):
            total = torch.zeros(channels)
            for cell in cells[number, : lengths[number]]:
                feature, weight = detector(cell[None, :, None, None])
                total += weight[0, 0, 0] * feature[0, :, 0, 0]
            torch.testing.assert_close(found[number], functional.normalize(total, dim=0), atol=1e-5, rtol=0)
        if int(lengths.sum()) > 1:
            describe_maps(detector.train(), Side(cells, padding))
            inner = functional.linear(cells[~padding], detector.conv1.weight[:, :, 0, 0], detector.conv1.bias)
            torch.testing.assert_close(detector.bn.running_mean, 0.1 * inner.mean(dim=0), atol=1e-5, rtol=0)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(2, 4), st.floats(0.05, 1.0), st.integers(0, 99))
def test_the_triplet_loss_is_a_loop(count: int, channels: int, margin: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    sides = random.normal(size=(3, count, channels))
    sides /= np.linalg.norm(sides, axis=2, keepdims=True)
    expected = [max(0.0, margin + ((a - p) ** 2).sum() - ((a - n) ** 2).sum()) for a, p, n in zip(*sides, strict=True)]
    found = triplet_loss(*(torch.from_numpy(side) for side in sides), margin=margin)
    assert float(found) == pytest.approx(np.mean(expected))


def test_it_starts_with_the_cells_of_the_map() -> None:
    torch.manual_seed(0)
    detector = Detector(5).eval()
    start_as_cells(detector)
    maps = torch.randn(2, 5, 3, 4)
    features, weights = detector(maps)
    torch.testing.assert_close(features, functional.normalize(maps, dim=1), atol=1e-5, rtol=0)
    torch.testing.assert_close(weights, weights[0, 0, 0].expand(2, 3, 4))


def test_it_learns_which_cells_find_other_things(trained: Trained) -> None:
    """Of things that were not trained on: better than the plain mean of cells, and the strongest cells say most."""
    assert trained.result.losses[0] > 2 * np.mean(trained.result.losses[-10:])
    gallery = open_gallery(load_config(None, [f"index={trained.index}"]))
    records = [record for record in gallery.index.records.values() if record.split == "val"]
    retrieval = HeldOutRetrieval([record.id for record in records], [record.label for record in records])
    stored = stored_maps(gallery, [record.id for record in records], gallery.index.card)
    detector, start = Detector.read(trained.file), Detector(gallery.index.card.local_dimension).eval()
    start_as_cells(start)
    before, after = (retrieval.scores(describe_stored(one, stored, len(records)))["mAP"] for one in (start, detector))
    assert after > before + 2
    cells = stored.side(torch.arange(len(records)), 64).descriptors
    units = functional.normalize(cells, dim=2)
    with torch.no_grad():
        weights = detector(cells.flatten(0, 1).T[None, :, None])[1].view(cells.shape[:2])
    orders = {"strongest": weights, "weakest": -weights, "longest": cells.norm(dim=2)}
    score = {}
    for name, strength in orders.items():
        rows = strength.topk(21, dim=1).indices[..., None].expand(-1, -1, units.shape[2])
        means = functional.normalize(units.gather(1, rows).mean(dim=1), dim=1)
        score[name] = retrieval.scores(means.numpy())["mAP"]
    assert score["strongest"] > score["weakest"] + 10
    assert score["strongest"] > score["longest"]


def test_its_file_is_read_by_describers_and_converts_to_the_official_one(trained: Trained, tmp_path: Path) -> None:
    file = read_checkpoint(trained.file)
    official = {f"conv{number}.{part}" for number in (1, 2) for part in ("weight", "bias")}
    official |= {f"bn.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}
    assert file.state.keys() == official
    assert file.header is not None
    assert file.header["kind"] == "detector"
    assert file.header["validation"]["mAP"] == trained.result.best["mAP"]
    assert convert(trained.file, tmp_path / "official.pt").kind == "detector"
    written: dict[str, Any] = torch.load(tmp_path / "official.pt", weights_only=True)
    assert written["state"].keys() == official
    picture = np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)
    found = []
    for path in (trained.file, tmp_path / "official.pt"):
        chosen = {"kind": "detector", "detector": path, "stage": -2, "scales": (1.0,), "dimension": None, "count": 9}
        describer = load_describer("efficientnet_lite0", image={"size": 128}, locals=chosen)
        found.append(describer.describe([describer.prepare(picture)])[0].locals)
    np.testing.assert_array_equal(found[0].descriptors, found[1].descriptors)
    assert len(found[0]) == 9


def test_the_verb(trained: Trained, tmp_path: Path) -> None:
    quick = [*QUICK, "train_detector.epochs=1", "train_detector.triplets=64", "train_detector.start=paper"]
    cost = dry_run_detector(load_config(None, [f"index={trained.index}", *quick]))
    channels = Detector.read(trained.file).channels
    assert cost.trainable == channels * channels + 4 * channels + 1
    where = ("--index", trained.index, "--out", tmp_path / "made.safetensors")
    made = document("train-detector", *where, *(f"--set={text}" for text in quick))
    assert {"checkpoint", "epochs", "best", "seconds"} <= made.keys()
    assert set(made["best"]) == {"epoch", "mAP", "R@1", "global mAP", "global R@1"}
    Detector.read(tmp_path / "made.safetensors")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "strongest"}, "one whole map of each image"),
        ({"scales": [0.7071, 1.0]}, "one whole map of each image"),
        ({"dimension": 8}, "projected to 8 values"),
    ],
)
def test_an_index_without_whole_maps_is_refused(trained: Trained, changes: dict[str, Any], words: str) -> None:
    gallery = open_gallery(load_config(None, [f"index={trained.index}"]))
    with pytest.raises(RelookError, match=rf"{words}; extract with describe\.locals\.kind=map"):
        stored_maps(gallery, [], gallery.index.card.changed("locals", **changes))
