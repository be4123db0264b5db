"""Two indexes joined by id: the list of one, re-ranked by the local descriptors of the other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from cli_helpers import relook
from photos import SmallCollection, make_collection

import relook as api
from pipeline.config import load_config
from pipeline.describe.detector import Detector
from pipeline.errors import RelookError
from pipeline.rerank.ames.network import AMESNetwork, AMESShape
from pipeline.rerank.ames.reranker import AMESReranker
from pipeline.rerank.checkpoints import save_checkpoint
from pipeline.stages.extract import extract
from pipeline.stages.train_rerank import train_rerank
from pipeline.stores import Index, IndexWriter

CHANNELS = 1280
IMAGE = ["describe.image.size=64", "describe.globals.scales=[1.0]"]
SEARCHED = ["describe.globals.p=3", "describe.locals.count=0"]
LOCALS = [
    "describe.locals.kind=detector",
    "describe.locals.count=8",
    "describe.locals.scales=[1.0]",
    "describe.locals.dimension=null",
]


class Made:
    """Two indexes, one that has both parts, a detector and a checkpoint of AMES."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.collection: SmallCollection = make_collection(folder / "photos")
        torch.manual_seed(0)
        self.detector, self.ames = folder / "detector.pt", folder / "ames.safetensors"
        torch.save({"state": Detector(CHANNELS).state_dict()}, self.detector)
        shape = AMESShape(local_dim=CHANNELS, model_dim=16, layers=2, feedforward=16)
        save_checkpoint(self.ames, AMESReranker(AMESNetwork(shape)).to_checkpoint())
        local = [*LOCALS, f"describe.locals.detector={self.detector}"]
        for name, settings in (("searched", SEARCHED), ("local", local), ("both", [*SEARCHED[:1], *local])):
            config = load_config(None, [*IMAGE, *settings, f"index={folder / name}"])
            assert extract(config, str(self.collection.manifest)).added == 28

    def open(self, name: str, locals_from: Path | None = None) -> api.Gallery:
        ames = {"weight": 0.3, "checkpoint": str(self.ames)}
        joined = {} if locals_from is None else {"locals_from": str(locals_from)}
        return api.open(self.folder / name, rerank={"chain": ["ames"], "ames": ames, **joined})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("joined"))


def photo(made: Made, number: int = 0) -> str:
    return str(made.collection.folder / sorted(made.collection.labels)[number])


def test_joined_as_in_one_index(made: Made) -> None:
    """A photo and an image of the index as queries: the same hits and scores as where one index has both parts."""
    joined, one = made.open("searched", made.folder / "local"), made.open("both")
    with joined, one:
        name = next(iter(one.index.records))
        for query in ({"image": photo(made, 5), "bbox": (3, 4, 80, 70)}, {"id": name}):
            found, expected = (gallery.search(**query, top_k=10) for gallery in (joined, one))
            assert [hit.id for hit in found] == [hit.id for hit in expected]
            np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in expected], atol=1e-4)
        measured = [gallery.evaluate().to_json()["reranked"]["mAP"] for gallery in (joined, one)]
        assert measured[0] == pytest.approx(measured[1], abs=0.5)


def test_what_cannot_be_joined(made: Made, tmp_path: Path) -> None:
    with made.open("searched") as alone, pytest.raises(RelookError, match="ames needs local descriptors"):
        alone.search(photo(made))
    for index, message in (
        (made.folder / "searched", "has no local descriptors \\(rerank.locals_from\\)"),
        (tmp_path, "rerank|index"),
    ):
        with made.open("searched", index) as gallery, pytest.raises(RelookError, match=message):
            gallery.search(photo(made))
    config = load_config(None, [f"index={made.folder / 'both'}", f"rerank.locals_from={made.folder / 'local'}"])
    with pytest.raises(RelookError, match=r"rerank\.locals_from: training reads one index alone"):
        train_rerank(config)
    fewer = tmp_path / "fewer"
    shutil.copytree(made.folder / "local", fewer)
    with IndexWriter(fewer) as writer:
        writer.delete([next(iter(made.collection.labels))])
    missing = pytest.raises(RelookError, match=r"has no image '.*', which .*searched has")
    with made.open("searched", fewer) as gallery, missing:
        gallery.search(photo(made), top_k=28)


def test_the_detector_is_kept_in_the_index(made: Made, tmp_path: Path) -> None:
    """Searches need its file no longer, and the command line says which model is missing one."""
    moved = tmp_path / "both"
    shutil.copytree(made.folder / "both", moved)
    card = Index(moved).card.to_json()["settings"]["locals"]
    assert (card["kind"], card["detector"]) == ("detector", Detector.read(made.detector).card)
    hidden = made.detector.rename(made.detector.with_suffix(".away"))
    try:
        found = relook("search", photo(made), "--index", moved, "--rerank", "none", "--json")
        assert found.returncode == 0, found.stderr
        assert json.loads(found.stdout)["queries"][0]["results"][0]["global_score"] > 0.99
    finally:
        hidden.rename(made.detector)
    wanted = ["--set", "describe.locals.kind=detector", "--set", "describe.image.size=64"]
    refused = relook("extract", "--images", made.collection.manifest, "--index", tmp_path / "none", *wanted)
    assert refused.returncode == 1
    assert "describe.locals.kind = detector: no detector was given" in refused.stderr


def test_official_places_in_an_export(made: Made, tmp_path: Path) -> None:
    target = tmp_path / "locals.hdf5"
    result = relook("export", "locals", target, "--official-places", "--index", made.folder / "local")
    assert result.returncode == 0, result.stderr
    plain = tmp_path / "plain.hdf5"
    assert relook("export", "locals", plain, "--index", made.folder / "local").returncode == 0
    with h5py.File(target) as official, h5py.File(plain) as own:
        rows, others = official["features"][:], own["features"][:]
    kept = rows[..., 3] == 0
    np.testing.assert_allclose(rows[kept][:, :2], others[kept][:, 1::-1] / (80, 96), atol=1e-6)
    np.testing.assert_array_equal(rows[..., 2:], others[..., 2:])
