"""Training of CVNet-Rerank: pairs as they are scored later, Hide-and-Seek, the curriculum, and that it learns."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from overfitting import overfit
from photos import make_collection
from stores_helpers import make_card, unit_vectors
from torch.nn import functional

from pipeline.checkpoints import write_official
from pipeline.config import CVNetModelConfig, TrainRerankConfig, load_config
from pipeline.errors import RelookError
from pipeline.rerank import load_reranker
from pipeline.rerank.checkpoints import read_checkpoint, save_checkpoint
from pipeline.rerank.cvnet.network import CVLearner, expand
from pipeline.rerank.cvnet.reranker import CVNetReranker
from pipeline.stages.convert import convert
from pipeline.stages.evaluate import evaluate
from pipeline.stages.extract import extract
from pipeline.stages.train_rerank import train_rerank
from pipeline.stores.index.map_store import MapStore, write_maps
from pipeline.train import FitResult, Progress, RunFiles, TrainingSet, Validation, fit
from pipeline.train.data.hide_and_seek import linear_ramp, visible_cells
from pipeline.train.rerankers.cvnet import CVNetRecipe, CVNetTask
from pipeline.types import FeatureMaps
from pipeline.workflow.gallery import open_gallery
from pipeline.workflow.model_loading import open_chain

LEVELS = (0.25, 1.0)
CHANNELS = 6
LABELS = [str(row // 4) for row in range(20)] + ["", ""]
IDS = [f"photo {row}" for row in range(len(LABELS))]


def maps_of(row: int) -> FeatureMaps:
    """What all pictures of a label show in common, and noise; upright and lying pictures are of other sizes."""
    rng = np.random.default_rng((1, row))
    common = np.random.default_rng((2, row // 4)).standard_normal((1, CHANNELS, 5, 5))
    whole = functional.interpolate(torch.from_numpy(common), (6, 4) if row % 2 else (4, 5), mode="bilinear")
    levels = [whole, functional.interpolate(whole, (2, 2), mode="bilinear")][::-1]
    return tuple((level[0].numpy() + 0.3 * rng.standard_normal(level.shape[1:])).astype(np.float16) for level in levels)


class Source:
    """Maps in memory, where an index has them in files; they can be changed."""

    def __init__(self) -> None:
        self.stored = {name: maps_of(row) for row, name in enumerate(IDS)}

    def maps(self, ids: Sequence[str]) -> list[FeatureMaps]:
        return [self.stored[name] for name in ids]


def card_with(**maps: Any) -> Any:
    return make_card(settings={"maps": {"levels": list(LEVELS), "channels": CHANNELS, "projected_by": None, **maps}})


def candidates(count: int, groups: Any) -> list[np.ndarray]:
    """The other pictures, those of the labels that follow first."""
    total = len(IDS)
    orders = [np.roll(np.arange(total), -row - 1)[:-1] for row in range(total)]
    return [order[:count] for order in orders]


def recipe_of(source: Any = None, card: Any = None, triplets: int = 48, **model: Any) -> CVNetRecipe:
    settings = TrainRerankConfig(batch_size=8, triplets=triplets, cvnet=CVNetModelConfig(**model))
    vectors = unit_vectors(len(IDS))
    training_set = TrainingSet(
        IDS, LABELS, vectors, candidates, source or Source(), card or card_with(), IDS, LABELS, vectors
    )
    return CVNetRecipe(training_set, settings, 0, "cpu")


def first_batch(task: CVNetTask, epoch: int = 1, epochs: int = 1) -> np.ndarray:
    task.begin_epoch(epoch, epochs)
    return task.plan(np.random.default_rng(0))[0]


def loss_of(task: CVNetTask, rows: np.ndarray) -> float:
    with torch.no_grad():
        return float(task(task.load(rows)))


# --- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(5, 4, 3, 6), (1, 1, 7, 2), (6, 6, 6, 6)])
def test_pairs_score_as_one_query_with_its_candidates(sizes: tuple[int, int, int, int]) -> None:
    torch.manual_seed(0)
    learner = CVLearner(2)
    queries, keys = (
        expand([torch.randn(5, CHANNELS, *size), torch.randn(5, CHANNELS, 1, 1)]) for size in (sizes[:2], sizes[2:])
    )
    alone = torch.cat([learner(query, key[None]) for query, key in zip(queries, keys, strict=True)])
    torch.testing.assert_close(learner(queries, keys), alone, atol=1e-6, rtol=1e-5)
    same = queries[:1].expand_as(queries)
    torch.testing.assert_close(learner(same, keys), learner(queries[0], keys), atol=1e-6, rtol=1e-5)


def test_gradients_are_those_of_the_loss() -> None:
    """By differences, along a random direction of all parameters and of both images' maps."""
    torch.manual_seed(0)
    learner = CVLearner(2).double()
    left, right = (torch.randn(3, 2, CHANNELS, 4, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    leaves = [*learner.parameters(), left, right]

    def loss() -> torch.Tensor:
        return functional.cross_entropy(learner(left, right), torch.tensor([0, 1, 1]))

    gradients = torch.autograd.grad(loss(), leaves)
    directions = [torch.randn_like(leaf) for leaf in leaves]
    values = []
    with torch.no_grad():
        for step in (1e-6, -2e-6):
            for leaf, direction in zip(leaves, directions, strict=True):
                leaf += step * direction
            values.append(float(loss()))
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("project", [False, True])
def test_the_loss_is_that_of_the_probabilities_it_is_used_by(project: bool) -> None:
    recipe = recipe_of(project=project, channels=5, hide=(0, 0))
    task, reranker = recipe.task, recipe.reranker
    rows = first_batch(task)
    assert len(task.load(rows).pairs) > 1  # sizes are mixed
    loss = task(task.load(rows))
    expected = []
    for anchor, positive, negative, *_ in rows:
        maps = [maps_of(row) for row in (anchor, positive, negative)]
        same, other = reranker.probabilities(maps[0], maps[1:])
        expected += [-np.log(same), -np.log1p(-other)]
    assert loss.item() == pytest.approx(float(np.mean(expected)), abs=1e-5)
    loss.backward()
    learnt = dict(task.named_parameters())
    assert len([name for name in learnt if name.startswith("projection")]) == (len(LEVELS) if project else 0)
    assert all(parameter.grad.abs().sum() > 0 for parameter in learnt.values())


def test_a_batch_in_parts_has_the_loss_of_the_whole() -> None:
    """As when a batch is divided among processes, or accumulated."""
    task = recipe_of(hide=(0.5, 0.5)).task
    rows = first_batch(task)
    parts = [rows[0::3], rows[1::3], rows[2::3]]
    summed = sum(loss_of(task, part) * len(part) / len(rows) for part in parts)
    assert summed == pytest.approx(loss_of(task, rows), abs=1e-6)


# --- Hide-and-Seek and the curriculum ---------------------------------------------------------------------------------


def test_masks_are_the_same_again_and_grow_and_never_hide_everything() -> None:
    for seed in range(30):
        masks = [visible_cells(seed, hidden, (4, 5)) for hidden in (0.0, 0.2, 0.5, 0.9, 1.0)]
        np.testing.assert_array_equal(masks[2], visible_cells(seed, 0.5, (4, 5)))
        assert masks[0].all()
        assert masks[-1].sum() == 1
        for less, more in itertools.pairwise(masks):
            assert not (more & ~less).any()
        assert visible_cells(seed, 0.99, (1, 1)).all()
    share = np.mean([1 - visible_cells(seed, 0.3, (10, 10)).mean() for seed in range(200)])
    assert share == pytest.approx(0.3, abs=0.01)
    assert not np.array_equal(visible_cells(0, 0.5, (4, 5)), visible_cells(1, 0.5, (4, 5)))


def test_what_is_hidden_has_no_effect() -> None:
    """Of one level, where nothing of a cell is interpolated into its neighbours."""
    source = Source()
    source.stored = {name: maps[-1:] for name, maps in source.stored.items()}
    task = recipe_of(source, card_with(levels=[1.0]), hide=(0.5, 0.5)).task
    rows = first_batch(task)[:1]
    before = loss_of(task, rows)
    anchor, positive, negative, seed, hidden = rows[0].tolist()
    assert hidden == 500
    for number, row in enumerate((anchor, positive, negative)):
        name = IDS[row]
        (kept,) = source.stored[name]
        mask = visible_cells(seed + number, 0.5, kept.shape[1:])
        assert not mask.all()
        source.stored[name] = (np.where(mask, kept, -kept[::-1]),)
        assert loss_of(task, rows) == pytest.approx(before, abs=1e-7)
        source.stored[name] = (np.where(mask, -kept[::-1], kept),)
        assert abs(loss_of(task, rows) - before) > 1e-6
        source.stored[name] = (kept,)


def test_a_line_goes_through_all_epochs() -> None:
    np.testing.assert_allclose(linear_ramp((0.0, 1.0), 1, 2, 4), [0, 0.125, 0.25, 0.375])
    np.testing.assert_allclose(linear_ramp((0.0, 1.0), 2, 2, 4), [0.5, 0.625, 0.75, 0.875])
    np.testing.assert_allclose(linear_ramp((0.8, 0.2), 3, 3, 2), [0.4, 0.3])


def test_the_curriculum_grows_by_epoch_and_by_nothing_else() -> None:
    task = recipe_of(triplets=600, hardest=2, hard=(0.0, 1.0), hide=(0.1, 0.5)).task
    hard, hidden = [], []
    for epoch in (1, 2, 3):
        task.begin_epoch(epoch, 3)
        drawn = np.concatenate(task.plan(np.random.default_rng(5)))
        np.testing.assert_array_equal(drawn, np.concatenate(task.plan(np.random.default_rng(5))))
        orders = [
            [row for row in found if LABELS[row] != LABELS[own]] for own, found in enumerate(candidates(99, None))
        ]
        assert all(negative in orders[anchor] for anchor, _, negative, *_ in drawn)
        hard.append(np.mean([negative in orders[anchor][:2] for anchor, _, negative, *_ in drawn]))
        hidden.append(drawn[:, 4])
        assert len(np.unique(drawn[:, 3])) == 600
    # Of the others, two in some seventeen are among the hardest by chance.
    np.testing.assert_allclose(hard, [0.26, 0.56, 0.85], atol=0.07)
    np.testing.assert_allclose([values.mean() for values in hidden], [166, 300, 433], atol=1)
    assert [values[0] for values in hidden] == [100, 233, 367]
    assert all((np.diff(values) >= 0).all() for values in hidden)
    assert len(task.plan(np.random.default_rng(5))) == 75


# --- training ---------------------------------------------------------------------------------------------------------


def train(
    folder: Path, recipe: CVNetRecipe, epochs: int, report: Callable[[Progress], None] = lambda progress: None
) -> FitResult:
    settings = TrainRerankConfig(epochs=epochs, batch_size=8, learning_rate=2e-3, save_every=2, average=0.5)
    return fit(
        recipe.task,
        settings,
        lambda: Validation(float(sum(p.detach().abs().sum() for p in recipe.task.parameters())), {"mAP": 1.0}),
        lambda which, validation: None,
        files=RunFiles(folder / "state", folder / "log"),
        identity="x",
        seed=3,
        device=torch.device("cpu"),
        report=report,
    )


GROWING = {"hide": (0.0, 0.6), "hard": (0.0, 1.0), "hardest": 2}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[float], list[torch.Tensor]]:
    """The losses of a run of two epochs that was not stopped, and what it learnt."""
    recipe = recipe_of(**GROWING)
    trained = train(tmp_path_factory.mktemp("whole"), recipe, 2)
    return trained.losses, list(recipe.task.parameters())


@pytest.mark.parametrize(("epoch", "step"), [(1, 2), (2, 5)])
def test_a_resumed_run_equals_one_that_was_not_stopped(
    tmp_path: Path, whole: tuple[list[float], list[torch.Tensor]], epoch: int, step: int
) -> None:
    class StopError(Exception):
        pass

    def stop(progress: Progress) -> None:
        if (progress.epoch, progress.step) == (epoch, step):
            raise StopError

    with pytest.raises(StopError):
        train(tmp_path, recipe_of(**GROWING), 2, stop)
    resumed = recipe_of(**GROWING)
    assert train(tmp_path, resumed, 2).losses == whole[0]
    assert len(set(whole[0])) == 12
    assert all(torch.equal(one, two) for one, two in zip(whole[1], resumed.task.parameters(), strict=True))


@pytest.mark.parametrize("project", [False, True])
def test_a_checkpoint_scores_as_what_was_trained(tmp_path: Path, project: bool) -> None:
    recipe = recipe_of(project=project, channels=5)
    train(tmp_path, recipe, 1)
    recipe.reranker.weight, recipe.reranker.temperature = 0.3, 0.25
    save_checkpoint(tmp_path / "cvnet.safetensors", recipe.checkpoint())
    again = load_reranker("cvnet", tmp_path / "cvnet.safetensors")
    assert isinstance(again, CVNetReranker)
    again.check(card_with())
    assert (again.weight, again.temperature) == (0.3, 0.25)
    query, others = maps_of(0), [maps_of(row) for row in range(1, 12)]
    np.testing.assert_array_equal(again.probabilities(query, others), recipe.reranker.probabilities(query, others))
    with pytest.raises(RelookError, match="another model's maps"):
        again.check(card_with(channels=99))


@pytest.mark.slow
def test_it_learns_eight_things_by_heart() -> None:
    overfit(
        "cvnet",
        ["epochs=1", "triplets=9600", "batch_size=16", "learning_rate=2e-3", "weight_decay=0", "cvnet.hide=[0,0]"],
        ["maps.levels=[0.5,1.0]", "maps.dimension=128", "image.size=224", "image.resize=exact", "locals.count=0"],
    )


def test_from_photos_to_a_ranking(tmp_path: Path) -> None:
    """The verbs, with maps of several sizes and nothing set but what has to be."""
    photos = make_collection(tmp_path / "photos")
    settings = [f"index={tmp_path / 'index'}", "describe.image.size=96", "describe.globals.scales=[1.0]"]
    maps = ["describe.locals.count=0", "describe.maps.levels=[0.5,1.0]", "describe.maps.dimension=16"]
    training = ["train_rerank.reranker=cvnet", "train_rerank.epochs=2", "train_rerank.triplets=64"]
    config = load_config(None, [*settings, *maps, *training, "train_rerank.batch_size=16", "rerank.chain=[cvnet]"])
    extract(config, str(photos.manifest))
    result = train_rerank(config)
    assert (result.epochs, result.anchors) == (2, 16)
    chain = open_chain(config, open_gallery(config).index.card)
    tuned = read_checkpoint(Path(result.checkpoint), "cvnet")
    assert chain[0].weight == tuned.weight == result.best["weight"]
    assert chain[0].reranker.temperature == tuned.temperature
    assert evaluate(config).rerank == ["cvnet"]


def test_what_cannot_be_learnt_from_is_refused() -> None:
    with pytest.raises(RelookError, match=r"trained on feature maps; extract with --set describe\.maps\.levels"):
        recipe_of(card=make_card())
    with pytest.raises(RelookError, match=r"train_rerank\.cvnet\.project = true.*projected by a checkpoint"):
        recipe_of(card=card_with(projected_by="sha256:x"), project=True)


# --- what validation tunes --------------------------------------------------------------------------------------------


def test_a_temperature_multiplies_the_logits() -> None:
    torch.manual_seed(0)
    plain = CVNetReranker(CVLearner(len(LEVELS)))
    query, others = maps_of(0), [maps_of(row) for row in range(1, 6)]
    probabilities = plain.probabilities(query, others).astype(np.float64)
    plain.temperature = 0.25
    odds = (probabilities / (1 - probabilities)) ** 0.25
    np.testing.assert_allclose(plain.probabilities(query, others), odds / (1 + odds), atol=1e-6)


def test_an_official_file_has_the_papers_weight(tmp_path: Path) -> None:
    torch.manual_seed(0)
    write_official(tmp_path / "cvnet.pyth", CVNetReranker(CVLearner()).to_checkpoint().state, "model_state")
    assert convert(tmp_path / "cvnet.pyth", tmp_path / "cvnet.safetensors").name == "cvnet"
    for name in ("cvnet.pyth", "cvnet.safetensors"):
        loaded: Any = load_reranker("cvnet", tmp_path / name)
        assert (loaded.weight, loaded.temperature) == (2 / 3, 1.0)
    assert convert(tmp_path / "cvnet.safetensors", tmp_path / "back.pyth").left_out == []


# --- reading ----------------------------------------------------------------------------------------------------------


def test_maps_are_read_on_several_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more files than are kept open, so that one thread closes what another reads."""
    monkeypatch.setattr("pipeline.stores.index.ragged_hdf5._OPEN_FILES", 1)
    rows = {}
    for row, name in enumerate(IDS):
        write_maps(tmp_path / f"{row}.h5", [name], [maps_of(row)])
        rows[name] = (tmp_path / f"{row}.h5", 0)
    with MapStore(lambda ids: [rows[name] for name in ids]) as store, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: store.read([name])[0], IDS * 20))
    for number, maps in enumerate(found):
        for level, expected in zip(maps, maps_of(number % len(IDS)), strict=True):
            np.testing.assert_array_equal(level, expected)
