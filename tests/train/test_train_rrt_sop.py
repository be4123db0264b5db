"""Training of the product transformer, from stored maps and together with its describer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from overfitting import LEAST, LEFT, SMALL, manifest_of_samples, overfit

from pipeline.checkpoints import read_checkpoint
from pipeline.config import Config, load_config
from pipeline.describe import load_describer
from pipeline.describe.card import settings_of
from pipeline.errors import RelookError
from pipeline.evaluate import by_labels
from pipeline.rerank import RerankStep, apply_chain, load_reranker
from pipeline.rerank.checkpoints import save_checkpoint
from pipeline.rerank.image_rows import Batch
from pipeline.rerank.rrt_sop.network import RRTSOPNetwork, RRTSOPShape
from pipeline.stages.convert import convert
from pipeline.stages.extract import extract
from pipeline.stages.train_rerank import train_rerank
from pipeline.stores import Index
from pipeline.train import RECIPES, FitResult, JointRecipe, Progress, RunFiles, Validation, fit
from pipeline.train.data.map_tokens import MapTokens, read_maps
from pipeline.train.data.triplets import Triplets
from pipeline.train.init.rrt import start_comparing_maps
from pipeline.train.init.whitening import Whitening
from pipeline.train.loop.task import TrainingTask
from pipeline.train.rerankers.rrt_sop import RRTSOPTask
from pipeline.types import Candidates
from pipeline.workflow.gallery import open_gallery
from pipeline.workflow.in_memory_gallery import InMemoryGallery
from pipeline.workflow.queries import find_candidates
from pipeline.workflow.training.index_photos import index_photos
from pipeline.workflow.training.training_set import make_training_set

MAP = [*SMALL, "describe.locals.kind=map", "device=cpu", "train_rerank.reranker=rrt_sop"]
FEW = ["epochs=1", "triplets=48", "batch_size=16", "rrt_sop.layers=1", "rrt_sop.feedforward=64"]
JOINT = [*FEW, "rrt_sop.joint.freeze=7", "rrt_sop.joint.augment.size=128", "rrt_sop.joint.augment.views=2"]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return manifest_of_samples(tmp_path_factory.mktemp("photos"), ("book_a", "clock_tower_a", "statue_a", "vase_a"))


@pytest.fixture(scope="module")
def index(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("maps") / "index"
    extract(config_for(folder), str(manifest))
    return folder


def config_for(index: Path, *more: str) -> Config:
    return load_config(None, [f"index={index}", *MAP, *more])


def recipe_for(index: Path, settings: list[str], *more: str) -> Any:
    """A recipe that learns from every picture of an index, and its settings."""
    config = config_for(index, *more, *(f"train_rerank.{text}" for text in settings))
    gallery = open_gallery(config)
    records = list(gallery.index.records.values())
    vectors = gallery.globals([record.id for record in records])
    training_set = make_training_set(gallery, records, vectors, np.arange(len(records)), index_photos(gallery, config))
    return RECIPES["rrt_sop"](training_set, config.train_rerank, config.seed, "cpu"), config.train_rerank


def run(
    folder: Path, task: TrainingTask, loop: Any, report: Callable[[Progress], None] = lambda progress: None
) -> FitResult:
    return fit(
        task,
        loop,
        lambda: Validation(1.0, {"mAP": 1.0}),
        lambda which, validation: None,
        files=RunFiles(folder / "state", folder / "log"),
        identity="x",
        seed=3,
        device=torch.device("cpu"),
        report=report,
    )


def all_scores(reranker: Any, gallery: Any, ids: list[str]) -> np.ndarray:
    """[N, N] of every picture with every other."""
    queries = gallery.describe(ids, reranker.needs)
    ones = [np.ones(len(ids), np.float32) for _ in ids]
    return np.stack(reranker.score(queries, Candidates(ids, [ids] * len(ids), ones), gallery))


def test_rrt_sop_learns_eight_things_by_heart() -> None:
    quick = ["epochs=1", "triplets=3200", "batch_size=32", "learning_rate=1e-3", "average=0.9", "weight_decay=0"]
    overfit("rrt_sop", [*quick, "rrt_sop.start=paper", "rrt_sop.layers=1"], ["locals.kind=map"])


def test_maps_of_wider_cells_are_projected_by_a_pca_and_keep_their_lengths(index: Path) -> None:
    """The PCA is the same for every cell: what it gives has other lengths, and the cells' mean is that of the map."""
    opened = Index(index)
    assert opened.card.local_dimension == 128
    lengths = np.concatenate([np.linalg.norm(part.descriptors, axis=1) for part in opened.locals(list(opened.records))])
    assert lengths.std() > 0.1 * lengths.mean()
    assert abs(lengths.mean() - 1) > 0.5


def test_tokens_of_maps_of_several_sizes_are_those_of_each_map_alone() -> None:
    torch.manual_seed(0)
    network = RRTSOPNetwork(RRTSOPShape(8, 2, 2, 16, d_local=12, token_length=3.0, symmetric=True, skip=True)).eval()
    sizes = [(3, 3), (2, 5), (4, 1), (3, 3), (1, 1)]
    maps = [torch.randn(12, *size) for size in sizes]
    cells = [network.project(part[None])[0].detach() for part in maps]
    tokens = MapTokens.of(network, cells, sizes)
    left, right = torch.tensor([0, 1, 2, 3, 4]), torch.tensor([1, 2, 3, 4, 0])
    with torch.no_grad():
        together = network(*(tokens.batch(side, None, torch.device("cpu")) for side in (left, right)))
        embedded = [network.embed(part[None]) for part in maps]
        alone = [
            network(*(Batch(embedded[int(row)][0], None, embedded[int(row)][1]) for row in pair))
            for pair in zip(left, right, strict=True)
        ]
    torch.testing.assert_close(together, torch.cat(alone))


def test_a_turn_moves_descriptors_and_not_their_places() -> None:
    torch.manual_seed(0)
    network = RRTSOPNetwork(RRTSOPShape(8, 2, 1, 16, token_length=2.0))
    tokens = MapTokens.of(network, [torch.randn(6, 8), torch.randn(4, 8)], [(2, 3), (2, 2)])
    turn = torch.linalg.qr(torch.randn(8, 8))[0]
    both = torch.tensor([0, 1])
    plain, turned = (tokens.batch(both, by, torch.device("cpu")) for by in (None, turn))
    places = tokens.codes[tokens.size[both]]
    there = ~plain.padding if plain.padding is not None else torch.ones(2, 6, dtype=torch.bool)
    torch.testing.assert_close((turned.rows - places)[there], ((plain.rows - places) @ turn)[there])
    assert not torch.allclose(turned.rows[there], plain.rows[there])


def test_only_likeness_can_be_learnt_where_descriptors_are_turned(tmp_path: Path) -> None:
    """Learnt with turns from eight things whose cells differ, pairs of eight others are told too."""
    rng = np.random.default_rng(0)

    def tokens_of(network: RRTSOPNetwork) -> tuple[list[str], MapTokens]:
        prototypes = rng.standard_normal((8, 1, 9, 16)).repeat(5, axis=1).reshape(40, 9, 16)
        cells = torch.from_numpy((prototypes + 0.3 * rng.standard_normal((40, 9, 16))).astype(np.float32))
        return [str(row // 5) for row in range(40)], MapTokens.of(network, list(cells), [(3, 3)] * 40)

    torch.manual_seed(0)
    network = RRTSOPNetwork(RRTSOPShape(16, 2, 2, 32, d_local=16, token_length=4.0))
    start_comparing_maps(network, Whitening(np.eye(16, dtype=np.float32), np.zeros(16, np.float32)))
    (names, learnt), (others, new) = tokens_of(network), tokens_of(network)
    everyone = np.arange(40)
    triplets = Triplets(names, [everyone[everyone != row] for row in everyone], [0] * 40)
    task = RRTSOPTask(network, learnt, triplets, names, 1600, 32)

    loop = config_for(Path("nowhere"), "train_rerank.epochs=3", "train_rerank.learning_rate=3e-3").train_rerank
    drawn = torch.from_numpy(Triplets(others, [everyone[everyone != r] for r in everyone], [0] * 40).epoch(200, rng))
    sides = [new.batch(drawn[:, column], None, torch.device("cpu")) for column in range(3)]

    @torch.no_grad()
    def told() -> float:
        return float((network(sides[0], sides[1]) > network(sides[0], sides[2])).float().mean())

    before = told()
    run(tmp_path, task, loop)
    assert told() > 0.9 > before


@pytest.mark.parametrize("start", ["comparing", "paper"])
def test_what_is_kept_scores_as_the_network_that_was_kept(index: Path, start: str, tmp_path: Path) -> None:
    recipe, loop = recipe_for(index, [*FEW, f"rrt_sop.start={start}"])
    run(tmp_path, recipe.task, loop)
    recipe.reranker.weight, recipe.reranker.temperature = 0.4, 0.25
    recipe.task.eval()
    checkpoint = recipe.checkpoint()
    save_checkpoint(tmp_path / "kept.safetensors", checkpoint)
    loaded: Any = load_reranker("rrt_sop", tmp_path / "kept.safetensors")
    assert (loaded.weight, loaded.temperature) == (0.4, 0.25)
    gallery = open_gallery(config_for(index))
    loaded.check(gallery.index.card)
    ids = sorted(gallery.index.records)[:12]
    recipe.task.network.load_state_dict(checkpoint.state)
    np.testing.assert_array_equal(all_scores(loaded, gallery, ids), all_scores(recipe.reranker, gallery, ids))


@pytest.mark.parametrize("settings", [FEW, JOINT], ids=["stored maps", "photos"])
def test_a_resumed_run_equals_one_that_was_not_stopped(index: Path, settings: list[str], tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.step == 2:
            raise StopError

    settings = [*settings, "save_every=1"]
    whole, loop = recipe_for(index, settings)
    resumed, _ = recipe_for(index, settings)
    losses = run(tmp_path / "whole", whole.task, loop).losses
    with pytest.raises(StopError):
        run(tmp_path / "parts", recipe_for(index, settings)[0].task, loop, stop)
    assert run(tmp_path / "parts", resumed.task, loop).losses == losses
    for one, two in zip(whole.task.state_dict().values(), resumed.task.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_an_index_without_one_map_of_each_picture_is_refused(manifest: Path, tmp_path: Path) -> None:
    for name, setting, message in (
        ("cells", "describe.locals.kind=strongest", "reads whole maps"),
        ("scales", "describe.locals.scales=[0.7, 1.0]", "of 2 scales"),
    ):
        config = config_for(tmp_path / name, setting)
        extract(config, str(manifest))
        with pytest.raises(RelookError, match=message):
            train_rerank(config)


@pytest.mark.slow
def test_with_its_describer_it_learns_eight_things_by_heart(tmp_path: Path) -> None:
    extract(config_for(tmp_path / "index"), str(manifest_of_samples(tmp_path / "photos")))
    still = ["size=128", "views=1", "area=[0.9, 1.0]", "flip=0", "jitter=0", "hue=0"]
    quick = ["epochs=1", "triplets=1600", "batch_size=16", "learning_rate=1e-3", "average=0.9", "weight_decay=0"]
    joint = ["rrt_sop.joint.freeze=7", "rrt_sop.joint.rate=0.3", *(f"rrt_sop.joint.augment.{text}" for text in still)]
    recipe, loop = recipe_for(tmp_path / "index", [*quick, "rrt_sop.start=paper", "rrt_sop.layers=1", *joint])
    losses = run(tmp_path, recipe.task, loop).losses
    assert np.mean(losses[-10:]) < LEFT * losses[0]
    recipe.task.eval()
    labels = {name: record.label for name, record in Index(tmp_path / "index").records.items()}
    ids = list(labels)
    now = InMemoryGallery(ids, recipe.describe(ids))
    itself = [frozenset({name}) for name in ids]
    asked = [now[name] for name in ids]
    candidates = find_candidates(now, ids, asked, len(ids), itself)
    for chain in ([], [RerankStep("rrt_sop", recipe.reranker, len(ids), 0.0)]):
        rankings = apply_chain(chain, asked, candidates, now)
        assert by_labels(rankings, list(labels.values()), labels, itself)[0].summary()["mAP"] >= LEAST


def test_before_the_first_step_the_describer_says_what_is_stored(index: Path) -> None:
    """Its PCA has become a convolution."""
    recipe, _ = recipe_for(index, JOINT)
    assert isinstance(recipe, JointRecipe)
    gallery = open_gallery(config_for(index))
    ids = sorted(gallery.index.records)[:6]
    now = InMemoryGallery(ids, recipe.describe(ids))
    np.testing.assert_allclose(now.globals(ids), gallery.globals(ids), atol=1e-5)
    for one, two in zip(read_maps(now, ids), read_maps(gallery, ids), strict=True):
        assert np.abs(one - two).max() < 2e-3 * np.abs(two).max()  # what is stored passed through float16


def test_a_step_changes_what_is_not_frozen_and_nothing_else(index: Path, tmp_path: Path) -> None:
    for freeze, contrast in (("7", 1.0), ("all", 0.0)):
        few = [*JOINT, "triplets=16", f"rrt_sop.joint.freeze={freeze}", f"rrt_sop.joint.contrast={contrast}"]
        recipe, loop = recipe_for(index, [*few, "rrt_sop.joint.rate=1.0"])
        network = recipe._describer.network
        before = {key: value.clone() for key, value in network.state_dict().items()}
        matcher = {key: value.clone() for key, value in recipe.task.network.state_dict().items()}
        run(tmp_path / freeze, recipe.task, loop)
        after = network.state_dict()
        changed = {key for key in before if not torch.equal(before[key], after[key])}
        last = ("backbone.model.blocks.6.", "backbone.model.conv_head.", "backbone.model.bn2.")
        learnt = {key for key in before if key.startswith(last) and "running" not in key and "num_batches" not in key}
        assert changed == {"reduce.weight", "reduce.bias"} | (learnt if freeze == "7" else set())
        now = recipe.task.network.state_dict()
        same = {key for key in matcher if torch.equal(matcher[key], now[key])}
        assert {"remap_local.weight", "remap_local.bias"} <= same
        assert "encoder.layers.0.linear2.weight" not in same


def test_one_file_is_a_describer_and_a_reranker(index: Path, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "both.safetensors"
    chosen = [f"train_rerank.{text}" for text in [*JOINT, "hold_out=sessions"]]
    result = train_rerank(config_for(index, *chosen, f"train_rerank.out={out}"))
    assert result.best["weight"] == load_reranker("rrt_sop", out).weight
    start = Index(index).card
    card = load_describer("efficientnet_lite0", out, **settings_of(start)).card
    differences = card.differences(start)
    assert [difference.split(":")[0] for difference in differences] == ["fitted", "weights"]
    # A user extracts with the settings of before and the new file.
    config = config_for(tmp_path / "index", f"describe.checkpoint={out}")
    extract(config, str(manifest))
    gallery = open_gallery(config)
    assert gallery.index.card.fingerprint == card.fingerprint
    loaded: Any = load_reranker("rrt_sop", out)
    loaded.check(gallery.index.card)
    with pytest.raises(RelookError, match="trained on another model's descriptors"):
        loaded.check(start)
    # And may train on from there.
    again, _ = recipe_for(tmp_path / "index", [*JOINT, f"rrt_sop.joint.start={out}"], f"describe.checkpoint={out}")
    assert again.task.network.shape == loaded.network.shape


def test_the_papers_two_steps_give_files_that_convert_to_the_official_format(manifest: Path, tmp_path: Path) -> None:
    sop = ["describe.name=sop_r50", "describe.locals.dimension=null"]
    sop += ["describe.image.size=64", "describe.image.crop=64"]
    small = ["epochs=1", "triplets=8", "batch_size=8", "rrt_sop.start=paper", "rrt_sop.layers=2"]
    small += ["rrt_sop.joint.contrast=0", "rrt_sop.joint.rate=1.0", "rrt_sop.joint.augment.size=64"]
    weights = ["describe.weights=random"]
    for step, freeze in (("frozen", "all"), ("tuned", "0")):
        folder, out = tmp_path / f"index-{step}", tmp_path / f"{step}.safetensors"
        extract(config_for(folder, *sop, *weights), str(manifest))
        recipe, loop = recipe_for(folder, [*small, f"rrt_sop.joint.freeze={freeze}"], *sop, *weights)
        run(tmp_path / step, recipe.task, loop)
        recipe.save(out)
        weights = [f"describe.checkpoint={out}"]
        small += [f"rrt_sop.joint.start={out}"]
    assert Index(folder).card.fingerprint == card_of(tmp_path / "frozen.safetensors").fingerprint
    convert(out, tmp_path / "official.pt")
    official = read_checkpoint(tmp_path / "official.pt").state
    expected = {"conv1.weight", "remap.weight", "remap_local.weight", "matcher.classifier.weight", "mean", "std"}
    assert expected <= official.keys()
    ours, theirs = (load_describer("sop_r50", tmp_path / name) for name in ("tuned.safetensors", "official.pt"))
    assert ours.card.weights == theirs.card.weights
    gallery = open_gallery(config_for(folder))
    ids = sorted(gallery.index.records)[:4]
    scores = [
        all_scores(load_reranker("rrt_sop", tmp_path / name), gallery, ids)
        for name in ("tuned.safetensors", "official.pt")
    ]
    np.testing.assert_array_equal(*scores)


def card_of(path: Path) -> Any:
    loaded: Any = load_reranker("rrt_sop", path)
    return loaded.card
