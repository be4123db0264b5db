"""Any reranker on any describer whose features it can take: through an index, from extraction to the ranking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from photos import SmallCollection, make_collection

from pipeline.checkpoints import write_official
from pipeline.config import load_config
from pipeline.errors import RelookError
from pipeline.rerank.ames.network import AMESNetwork, AMESShape
from pipeline.rerank.ames.reranker import AMESReranker
from pipeline.rerank.checkpoints import save_checkpoint
from pipeline.rerank.cvnet.network import CVLearner
from pipeline.rerank.cvnet.reranker import CVNetReranker
from pipeline.rerank.elvis.network import ELViSNetwork, ELViSShape
from pipeline.rerank.elvis.reranker import ELViSReranker
from pipeline.rerank.locore.network import LoCoReNetwork
from pipeline.rerank.locore.reranker import LoCoReReranker
from pipeline.rerank.locore.shape import LoCoReShape
from pipeline.rerank.rrt.network import RRTNetwork, RRTShape
from pipeline.rerank.rrt.reranker import RRTReranker
from pipeline.stages.extract import extract
from pipeline.stages.search import search
from pipeline.stores import Index

SMALL = ["describe.image.size=96", "describe.globals.scales=[1.0]", "describe.locals.scales=[1.0]"]
DESCRIBERS: dict[str, list[str]] = {
    "efficientnet": [*SMALL, "describe.maps.levels=[0.5, 1.0]", "describe.maps.stage=3", "describe.maps.dimension=16"],
    "dinov2": [
        "describe.name=vit_tiny_patch16_224",
        "describe.weights=random",
        "describe.image.size=64",
        "describe.image.resize=exact",
        "describe.locals.count=12",
        "describe.globals.scales=[1.0]",
        "describe.locals.scales=[1.0]",
        "describe.locals.dimension=null",
        "describe.maps.levels=[0.5, 1.0]",
        "describe.maps.projection=none",
    ],
    "cvnet": [
        "describe.name=cvnet_r50",
        "describe.weights=random",
        "describe.globals.scales=[1.0]",
        "describe.locals.count=20",
        "describe.locals.scales=[1.0]",
        "describe.locals.dimension=32",
        "describe.maps.levels=[0.5, 1.0]",
    ],
}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> SmallCollection:
    return make_collection(tmp_path_factory.mktemp("photos") / "collection")


@pytest.fixture(scope="module", params=list(DESCRIBERS))
def indexed(
    request: pytest.FixtureRequest, collection: SmallCollection, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """An index of a describer, and the settings that made it."""
    folder = tmp_path_factory.mktemp(request.param) / "index"
    settings = [f"index={folder}", *DESCRIBERS[request.param]]
    extract(load_config(None, settings), str(collection.manifest))
    return folder, settings


def checkpoint_for(name: str, index: Index, path: Path) -> Path:
    """A network of the sizes that the index's descriptors have, with random weights."""
    torch.manual_seed(0)
    card = index.card
    made: Any
    if name == "rrt":
        made = RRTReranker(RRTNetwork(RRTShape(card.dimension, 32, 4, 1, 64, d_local=card.local_dimension)), card, 0.5)
    elif name == "locore":
        sizes: dict[str, Any] = {"d_local": card.local_dimension, "d_global": card.dimension, "positions": 80}
        sizes |= {
            "width": 32,
            "layers": 1,
            "heads": 4,
            "feedforward": 64,
            "windows": (16,),
            "locals": 6,
            "candidates": 8,
        }
        shape = LoCoReShape(**sizes, project_local=True, project_global=True, padding_counts=False)
        made = LoCoReReranker(LoCoReNetwork(shape), card, 0.5)
    elif name == "ames":
        made = AMESReranker(AMESNetwork(AMESShape(card.local_dimension, 32, 2, 1, 64)), card, 0.5)
    elif name == "elvis":
        made = ELViSReranker(ELViSNetwork(ELViSShape(card.local_dimension, 32)), card, 0.5)
    else:
        made = CVNetReranker(CVLearner(2), card=card, weight=0.5)
    save_checkpoint(path, made.to_checkpoint())
    return path


@pytest.mark.parametrize("name", ["rrt", "ames", "elvis", "locore", "cvnet"])
def test_every_reranker_ranks_what_every_describer_gives(
    indexed: tuple[Path, list[str]], name: str, collection: SmallCollection, tmp_path: Path
) -> None:
    folder, settings = indexed
    checkpoint = checkpoint_for(name, Index(folder), tmp_path / "weights.safetensors")
    chosen = [f"rerank.chain=[{name}]", f"rerank.{name}.checkpoint={checkpoint}", f"rerank.{name}.weight=0.5"]
    result = search(load_config(None, [*settings, *chosen]), [str(collection.folder / "disc" / "disc_0.png")])
    hits = result.hits[0]
    assert result.rerank == [name]
    assert len(hits) == 10
    assert all(0 <= hit.explanation[name] <= 1 for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def write_ames(path: Path, width: int, *, bits: bool) -> Path:
    shape = AMESShape(width, 32, 2, 1, 64, binarised=bits)
    torch.manual_seed(0)
    write_official(path, AMESNetwork(shape).state_dict(), "state")
    return path


@pytest.mark.parametrize("bits", [False, True])
def test_locals_projected_when_extracting_score_like_those_projected_later(
    collection: SmallCollection, tmp_path: Path, bits: bool
) -> None:
    weights = write_ames(tmp_path / "ames.pt", 1280, bits=bits)
    common = [*SMALL, "describe.locals.count=9", "rerank.chain=[ames]", f"rerank.ames.checkpoint={weights}"]
    common += ["rerank.ames.weight=0.0", "rerank.ames.gallery_locals=4"]
    query = str(collection.folder / "ring" / "ring_1.png")
    scores = {}
    for kind, extra in {
        "later": ["describe.locals.dimension=null"],
        "before": [
            f"describe.locals.projection={weights}",
            "describe.locals.stored=4",
            "describe.locals.geometry=false",
        ],
    }.items():
        config = load_config(None, [f"index={tmp_path / kind}", *common, *extra])
        extract(config, str(collection.manifest))
        hits = search(config, [query]).hits[0]
        scores[kind] = {hit.id: hit.score for hit in hits}
    shared = scores["later"].keys() & scores["before"].keys()
    assert len(shared) >= 8
    for name in shared:
        # What is stored as bits is exact; the rest passed through float16 before its projection, or after it.
        assert scores["before"][name] == pytest.approx(scores["later"][name], abs=1e-5 if bits else 2e-3)
    local = Index(tmp_path / "before").locals(["ring/ring_1.png"])[0]
    assert local.descriptors.shape == (4, 32)
    assert len(local.xy) == 0
    if bits:
        assert set(np.unique(local.descriptors)) == {-1.0, 1.0}
    # The index holds the projection: the file is not needed for queries.
    weights.rename(tmp_path / "moved.pt")
    config = load_config(
        None, [f"index={tmp_path / 'before'}", f"rerank.ames.checkpoint={tmp_path / 'moved.pt'}", *common[3:4]]
    )
    assert search(config, [query]).hits[0]


def test_a_projection_of_another_width_is_refused_before_anything_is_written(
    collection: SmallCollection, tmp_path: Path
) -> None:
    weights = write_ames(tmp_path / "ames.pt", 1024, bits=True)
    config = load_config(None, [f"index={tmp_path / 'index'}", *SMALL, f"describe.locals.projection={weights}"])
    with pytest.raises(RelookError, match="takes descriptors of 1024 values, efficientnet_lite0 gives 1280"):
        extract(config, str(collection.manifest))
    assert not (tmp_path / "index" / "index.json").exists()


def test_what_makes_no_sense_is_refused(
    indexed: tuple[Path, list[str]], collection: SmallCollection, tmp_path: Path
) -> None:
    folder, settings = indexed
    query = str(collection.folder / "disc" / "disc_0.png")
    width = Index(folder).card.local_dimension

    def refused(name: str, checkpoint: Path, message: str) -> None:
        chosen = [f"rerank.chain=[{name}]", f"rerank.{name}.checkpoint={checkpoint}", f"rerank.{name}.weight=0.5"]
        with pytest.raises(RelookError, match=message):
            search(load_config(None, [*settings, *chosen]), [query])

    ames = write_ames(tmp_path / "ames.pt", width + 1, bits=False)
    refused("ames", ames, f"{width + 1}.*{width}")
    torch.manual_seed(0)
    write_official(tmp_path / "rrt.pt", RRTNetwork(RRTShape(7, 8, 4, 1, 16)).state_dict(), "state")
    refused("rrt", tmp_path / "rrt.pt", "descriptors of 7 .*; the index has")
    learner = CVNetReranker(CVLearner(3))
    save_checkpoint(tmp_path / "cvnet.safetensors", learner.to_checkpoint())
    refused("cvnet", tmp_path / "cvnet.safetensors", "compares 3 levels of maps; the index has 2")


def test_an_index_without_geometry_is_refused_by_what_needs_it(collection: SmallCollection, tmp_path: Path) -> None:
    config = load_config(None, [f"index={tmp_path / 'index'}", *SMALL, "describe.locals.geometry=false"])
    extract(config, str(collection.manifest))
    checkpoint = checkpoint_for("rrt", Index(tmp_path / "index"), tmp_path / "weights.safetensors")
    chosen = ["rerank.chain=[rrt]", f"rerank.rrt.checkpoint={checkpoint}"]
    with pytest.raises(RelookError, match=r"describe\.locals\.geometry"):
        search(
            load_config(None, [f"index={tmp_path / 'index'}", *chosen]),
            [str(collection.folder / "disc" / "disc_0.png")],
        )
