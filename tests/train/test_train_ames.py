"""Training of AMES: its draws, its two starts, the bits and their teacher, and that both variants learn."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from overfitting import overfit
from photos import SmallCollection
from torch.nn import functional

from pipeline.config import TrainRerankConfig, load_config
from pipeline.errors import RelookError, UsageError
from pipeline.rerank import load_reranker
from pipeline.rerank.ames.network import AMESNetwork, AMESShape, Binarised
from pipeline.rerank.ames.reranker import AMESReranker, projection_hash
from pipeline.rerank.checkpoints import save_checkpoint
from pipeline.stages.extract import extract
from pipeline.stages.train_rerank import train_rerank
from pipeline.stores.index.local_store import LocalStore, write_locals
from pipeline.train import RunFiles, TrainingSet, Validation, fit
from pipeline.train.data.ames_pairs import begin_side, soft_signs
from pipeline.train.data.stored_locals import Side, StoredLocals
from pipeline.train.init.itq import fit_rotation, principal_directions
from pipeline.train.rerankers.ames import AMESRecipe
from pipeline.train.rerankers.ames_binarised import AMESStudentRecipe, ames_recipe, start_from_teacher
from pipeline.types import Candidates, Description, LocalDescriptors, ModelCard
from pipeline.workflow.gallery import open_gallery
from pipeline.workflow.model_loading import open_chain

LABELS, MEMBERS, WIDTH = 8, 6, 32
SMALL: dict[str, Any] = {
    **{"model_dim": 128, "heads": 2, "layers": 2, "feedforward": 64, "shrinkage": 0.5, "turning": True},
    **{"least_locals": 4, "query_locals": 10, "gallery_locals": 6},
}
CARD = ModelCard("toy", "toy", "sha256:0", {"locals": {"count": 12, "projection": None}}, "", 16, WIDTH)


class Source:
    """Pictures of things: each has the thing's parts, seen with noise, among parts of its own.

    Args:
        things: [L, 6, d], the parts of every thing.
        seed: of the noise.
        empty: pictures that have no descriptor at all.
        noise: standard deviation of a part's values from one picture to another.
    """

    def __init__(self, things: np.ndarray, seed: int, empty: Sequence[str] = (), noise: float = 0.5) -> None:
        rng = np.random.default_rng(seed)
        self.ids = [f"{label}-{view}" for label in range(len(things)) for view in range(MEMBERS)]
        self.labels = [name.split("-")[0] for name in self.ids]
        self.parts: dict[str, np.ndarray] = {}
        for name, label in zip(self.ids, self.labels, strict=True):
            seen = things[int(label)] + noise * rng.standard_normal((6, WIDTH))
            rows = rng.permutation(np.concatenate([seen, rng.standard_normal((6, WIDTH))]))
            count = 0 if name in empty else int(rng.integers(9, 13))
            unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            self.parts[name] = unit[:count].astype(np.float16).astype(np.float32)

    def globals(self, ids: Sequence[str]) -> np.ndarray:
        raise AssertionError("ames reads no globals")

    def locals(self, ids: Sequence[str]) -> list[LocalDescriptors]:
        none = np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32)
        return [LocalDescriptors(self.parts[name], *none) for name in ids]

    def maps(self, ids: Sequence[str]) -> Any:
        raise AssertionError("ames reads no maps")


def things(seed: int, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((LABELS, 6, width))


def training_set(source: Source, card: ModelCard = CARD) -> TrainingSet:
    every = np.arange(len(source.ids))
    vectors = np.zeros((len(every), 16), np.float32)
    return TrainingSet(
        ids=source.ids,
        labels=source.labels,
        vectors=vectors,
        candidates=lambda count, groups: [every[every != row] for row in every],
        source=source,
        card=card,
        all_ids=source.ids,
        all_labels=source.labels,
        all_vectors=vectors,
    )


def config(ames: dict[str, Any] | None = None, **loop: Any) -> TrainRerankConfig:
    values = {"epochs": 1, "batch_size": 16, "triplets": 640, "average": 0.9, "weight_decay": 0.0, **loop}
    return TrainRerankConfig(reranker="ames", ames={**SMALL, **(ames or {})}, **values)


def trained(recipe: Any, chosen: TrainRerankConfig, folder: Path) -> list[float]:
    return fit(
        recipe.task,
        chosen,
        lambda: Validation(0.0, {}),
        lambda which, validation: None,
        files=RunFiles(folder / "state", folder / "log"),
        identity="x",
        seed=0,
        device=torch.device("cpu"),
    ).losses


def logits(reranker: AMESReranker, source: Source) -> np.ndarray:
    """[N, N] of all pictures against all."""
    descriptions = [Description(np.zeros(16, np.float32), part) for part in source.locals(source.ids)]
    candidates = Candidates(source.ids, [source.ids] * len(source.ids), [np.zeros(0, np.float32)] * len(source.ids))
    scores = np.stack(reranker.score(descriptions, candidates, source)).astype(np.float64)
    return np.log(scores / (1 - scores))


def precision(scores: np.ndarray, labels: Sequence[str]) -> float:
    """mAP in percent when every picture asks for the others of its label."""
    names, found = np.array(labels), []
    for row, values in enumerate(scores):
        order = np.argsort(-values, kind="stable")
        right = (names == names[row])[order[order != row]]
        found.append((np.cumsum(right) / np.arange(1, len(right) + 1))[right].mean())
    return 100 * float(np.mean(found))


# Draws


@given(
    least=st.integers(1, 4),
    more=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    triplets=st.integers(1, 90),
    batch=st.integers(1, 20),
    seed=st.integers(0, 3),
)
@settings(max_examples=40)
def test_a_batch_says_everything_about_itself(
    least: int, more: tuple[int, int], triplets: int, batch: int, seed: int
) -> None:
    counts = {"least_locals": least, "query_locals": least + more[0], "gallery_locals": least + more[1]}
    source = Source(things(0), 0)
    task = AMESRecipe(
        training_set(source), config({**counts, "start": "paper"}, triplets=triplets, batch_size=batch), 0, "cpu"
    ).task
    plan = task.plan(np.random.default_rng(seed))
    again = task.plan(np.random.default_rng(seed))
    assert [len(rows) for rows in plan] == [len(rows) for rows in task.plan(np.random.default_rng(seed + 1))]
    assert sum(map(len, plan)) == triplets
    assert max(map(len, plan)) <= batch
    for rows, same in zip(plan, again, strict=True):
        np.testing.assert_array_equal(rows, same)
        for anchor, positive, negative in rows[:, :3]:
            assert anchor != positive
            assert source.labels[anchor] == source.labels[positive] != source.labels[negative]
        assert (rows[:, 3:] == rows[0, 3:]).all()
        assert least <= rows[0, 3] <= least + more[0]
        assert least <= rows[0, 4] <= least + more[1]


def test_either_side_is_drawn_for_itself_up_to_its_own_limit() -> None:
    task = AMESRecipe(
        training_set(Source(things(0), 0)), config({"start": "paper"}, triplets=600, batch_size=1), 0, "cpu"
    ).task
    drawn = np.array([rows[0, 3:] for rows in task.plan(np.random.default_rng(0))])
    assert {tuple(pair) for pair in drawn.tolist()} == {(q, g) for q in range(4, 11) for g in range(4, 7)}


def test_what_is_loaded_is_as_much_as_was_drawn() -> None:
    source = Source(things(0), 0)
    task = AMESRecipe(training_set(source), config({"start": "paper"}), 0, "cpu").task
    loaded = task.load(np.array([[0, 1, 6, 10, 4], [2, 3, 12, 10, 4]]))
    assert loaded.anchors.descriptors.shape == (2, 10, WIDTH)
    assert loaded.others.descriptors.shape == (4, 4, WIDTH)
    assert loaded.truth.tolist() == [1, 1, 0, 0]
    for place, row in enumerate((1, 3, 6, 12)):
        np.testing.assert_array_equal(loaded.others.descriptors[place], source.parts[source.ids[row]][:4])
    short = next(row for row, name in enumerate(source.ids) if len(source.parts[name]) == 9)
    side = task.load(np.array([[short, 1, 6, 10, 4], [2, 3, 12, 10, 4]])).anchors
    assert side.padding is not None
    assert side.padding[0].tolist() == [False] * 9 + [True]


def test_collections_that_do_not_fit_the_memory_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(things(0), 0)
    whole = StoredLocals(source, source.ids, 10)
    monkeypatch.setattr("pipeline.train.data.stored_locals._CACHED", 3000)
    monkeypatch.setattr("pipeline.train.data.stored_locals._SAMPLED", 48 * 5 * WIDTH)
    parts = StoredLocals(source, source.ids, 10)
    rows = torch.arange(len(source.ids))
    for _ in range(2):
        torch.testing.assert_close(parts.side(rows, 10).descriptors, whole.side(rows, 10).descriptors, atol=0, rtol=0)
    samples, owners = parts.sample()
    assert len(samples) == len(owners) <= 48 * 5
    assert set(owners.tolist()) == set(range(48))
    monkeypatch.setattr("pipeline.train.data.stored_locals._SAMPLED", 20 * WIDTH)
    samples, owners = parts.sample()
    assert owners.tolist() == list(range(0, 48, 3))
    expected = np.stack([source.parts[source.ids[row]][0] for row in owners])
    np.testing.assert_allclose(samples, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)


# The loss


@pytest.mark.parametrize("binarised", [False, True])
def test_training_sees_what_scoring_sees(binarised: bool) -> None:
    torch.manual_seed(0)
    shape = AMESShape(WIDTH, 32, 2, 3, 64, binarised, False)
    network = AMESNetwork(shape)
    reranker = AMESReranker(network)
    side = [
        Side(torch.randn(4, 7, WIDTH), torch.arange(7) >= torch.tensor([[7], [3], [5], [1]])),
        Side(torch.randn(4, 5, WIDTH), None),
    ]
    nowhere = torch.zeros(4, 5, dtype=torch.bool)
    expected = reranker.logits(side[0].descriptors, side[0].padding, side[1].descriptors, nowhere)
    queries, gallery = (begin_side(network, part, None) for part in side)
    torch.testing.assert_close(network(queries, gallery), expected, atol=1e-5, rtol=1e-5)
    everything = network.tokens(queries, gallery)
    torch.testing.assert_close(network.classifier(everything[:, 7]).squeeze(-1), expected, atol=1e-5, rtol=1e-5)


def test_a_turned_step_is_a_step_of_a_network_with_a_turned_projection() -> None:
    torch.manual_seed(0)
    network = AMESNetwork(AMESShape(WIDTH, 32, 2, 2, 64, False, False)).eval()
    side = Side(torch.randn(4, 7, WIDTH), None)
    turn = torch.linalg.qr(torch.randn(32, 32))[0]
    turned = begin_side(network, side, turn)
    with torch.no_grad():
        linear = network.remap_local[0]
        linear.weight.copy_(turn.T @ linear.weight)
        linear.bias.copy_(turn.T @ linear.bias)
    torch.testing.assert_close(turned.rows, begin_side(network, side, None).rows, atol=1e-5, rtol=1e-5)


def test_a_step_is_turned_where_the_settings_say_so() -> None:
    losses = {}
    for turning in (False, True):
        task = AMESRecipe(training_set(Source(things(0), 0)), config({"turning": turning}), 0, "cpu").task
        loaded = task.load(task.plan(np.random.default_rng(0))[0])
        with torch.no_grad():
            losses[turning] = [float(task(loaded)) for _ in range(2)]
    assert losses[False][0] == losses[False][1]
    assert losses[True][0] != losses[True][1]


def test_pictures_without_descriptors_do_no_harm() -> None:
    source = Source(things(0), 0, empty=("0-0", "1-3"))
    for start in ("comparing", "paper"):
        task = AMESRecipe(training_set(source), config({"start": start}), 0, "cpu").task
        loss = task(task.load(np.array([[0, 1, 9, 10, 6], [9, 10, 0, 10, 6]])))
        loss.backward()
        assert torch.isfinite(loss)
        grads = [p.grad for p in task.parameters() if p.requires_grad]
        assert all(grad is not None and torch.isfinite(grad).all() for grad in grads)


# The comparing start


def test_a_comparing_start_tells_likeness_before_any_training() -> None:
    """On things that it was not fitted to: the logits must rank them, and be calibrated on those it was fitted to."""
    recipe = AMESRecipe(training_set(Source(things(0), 0)), config(), 0, "cpu")
    plan = recipe.task.plan(np.random.default_rng(5))
    with torch.no_grad():
        losses = [float(recipe.task(recipe.task.load(rows))) for rows in plan]
    assert np.mean(losses) < 0.62
    new = Source(things(1), 1)
    assert precision(logits(recipe.reranker, new), new.labels) > 60
    usual = AMESRecipe(training_set(Source(things(0), 0)), config({"start": "paper"}), 0, "cpu")
    assert precision(logits(usual.reranker, new), new.labels) < 40


def test_the_projection_is_learnt_from_either_start(tmp_path: Path) -> None:
    for start in ("comparing", "paper"):
        chosen = config({"start": start}, triplets=64)
        recipe = AMESRecipe(training_set(Source(things(0), 0)), chosen, 0, "cpu")
        before = recipe.task.network.remap_local[0].weight.detach().clone()
        trained(recipe, chosen, tmp_path / start)
        assert not torch.equal(before, recipe.task.network.remap_local[0].weight)


def test_it_learns_to_compare_what_it_never_saw(tmp_path: Path) -> None:
    chosen = config(triplets=1600, learning_rate=3e-3)
    recipe = AMESRecipe(training_set(Source(things(0), 0, noise=0.7)), chosen, 0, "cpu")
    new = Source(things(1), 1, noise=0.7)
    before = precision(logits(recipe.reranker, new), new.labels)
    losses = trained(recipe, chosen, tmp_path)
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    assert precision(logits(recipe.reranker, new), new.labels) > before + 5


def test_it_learns_eight_things_by_heart() -> None:
    quick = ["epochs=1", "triplets=4800", "batch_size=48", "learning_rate=2e-3", "average=0.9", "weight_decay=0"]
    sizes = ["ames.layers=1", "ames.query_locals=8", "ames.gallery_locals=8", "ames.least_locals=4"]
    overfit("ames", [*quick, "ames.start=paper", *sizes], ["locals.count=8"])


# Iterative quantisation


@given(
    count=st.integers(2, 200),
    width=st.integers(1, 12),
    seed=st.integers(0, 5),
    spread=st.floats(1e-3, 1e3),
)
@settings(max_examples=50)
def test_a_rotation_is_orthogonal_and_never_gets_worse(count: int, width: int, seed: int, spread: float) -> None:
    values = spread * np.random.default_rng(seed).standard_normal((count, width)) * np.arange(1, width + 1)
    turn, errors = fit_rotation(values, seed)
    np.testing.assert_allclose(turn.T @ turn, np.eye(width), atol=1e-9)
    assert len(errors) == 51
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(errors))
    again, same = fit_rotation(values, seed)
    assert same == errors
    np.testing.assert_array_equal(turn, again)


def test_a_rotation_finds_the_corners() -> None:
    rng = np.random.default_rng(0)
    corners = rng.choice([-1.0, 1.0], (500, 8)) + 0.05 * rng.standard_normal((500, 8))
    hidden = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    _, errors = fit_rotation(corners @ hidden, 0)
    assert min(fit_rotation(corners @ hidden, seed)[1][-1] for seed in range(5)) < 0.01
    assert errors[0] > 0.2


def test_directions_are_the_principal_ones_off_the_mean() -> None:
    rng = np.random.default_rng(0)
    samples = (rng.standard_normal((2000, 6)) * [5, 4, 3, 0.1, 0.1, 0.1] + [0, 0, 0, 0, 0, 9]).astype(np.float32)
    found = principal_directions(samples, 3)
    np.testing.assert_allclose(found.T @ found, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(np.abs(found), np.eye(6)[:, :3], atol=0.1)
    assert np.abs(samples.mean(axis=0) @ found).max() < 1e-5
    np.testing.assert_array_equal(principal_directions(samples, 6), np.eye(6))


# Bits and their teacher


def test_soft_signs_become_signs_and_pass_gradients() -> None:
    torch.manual_seed(0)
    bits = Binarised(WIDTH, 16)
    unit = functional.normalize(torch.randn(50, WIDTH), dim=-1)
    torch.testing.assert_close(soft_signs(unit, bits.W, 1e-14), bits(unit), atol=1e-6, rtol=0)
    bits(unit).sum().backward()
    assert bits.W.grad is not None
    assert not bits.W.grad.any()  # signs alone teach nothing
    soft_signs(unit, bits.W, 1e-3).sum().backward()
    assert bits.W.grad.abs().max() > 1
    expected = torch.erf(unit @ bits.W / np.sqrt(2 * 1e-3))
    torch.testing.assert_close(soft_signs(unit, bits.W, 1e-3), expected)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a teacher that learnt the toy set."""
    folder = tmp_path_factory.mktemp("teacher")
    chosen = config(triplets=1600)
    recipe = AMESRecipe(training_set(Source(things(0), 0)), chosen, 0, "cpu")
    trained(recipe, chosen, folder)
    save_checkpoint(folder / "teacher.safetensors", recipe.checkpoint())
    return folder / "teacher.safetensors"


def student(teacher: Path | None, card: ModelCard = CARD, **ames: Any) -> AMESStudentRecipe:
    chosen = config({"binarised": True, "teacher": teacher, **ames}, triplets=1600)
    recipe = ames_recipe(training_set(Source(things(0), 0), card), chosen, 0, "cpu")
    assert isinstance(recipe, AMESStudentRecipe)
    return recipe


@pytest.mark.parametrize("start", ["comparing", "paper"])
def test_gradients_reach_the_bits_and_spare_the_teacher(teacher: Path, start: str) -> None:
    task = student(teacher, start=start, variance=1e-3).task
    task(task.load(task.plan(np.random.default_rng(0))[0])).backward()
    first = task.network.remap_local[0]
    assert isinstance(first, Binarised)
    assert first.W.grad is not None
    assert first.W.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in task.teacher.parameters())


def test_a_student_comes_near_its_teacher_and_its_file_scores_the_same(teacher: Path, tmp_path: Path) -> None:
    recipe = student(teacher)
    chosen = config({"binarised": True, "teacher": teacher}, triplets=1600, learning_rate=3e-4)
    losses = trained(recipe, chosen, tmp_path)
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    known, new = Source(things(0), 0), Source(things(1), 1)
    for source, least, within in ((known, 90, 3), (new, 85, 8)):
        taught, learnt = (
            precision(logits(reranker, source), source.labels)
            for reranker in (AMESReranker.load(teacher, query_locals=10, gallery_locals=6), recipe.reranker)
        )
        assert taught > least
        assert learnt > taught - within
    save_checkpoint(tmp_path / "student.safetensors", recipe.checkpoint())
    loaded = load_reranker("ames", tmp_path / "student.safetensors", query_locals=10, gallery_locals=6)
    assert isinstance(loaded, AMESReranker)
    loaded = loaded.bind(CARD)
    np.testing.assert_array_equal(logits(loaded, new), logits(recipe.reranker, new))
    # The bits as an index stores them.
    stored = tmp_path / "bits.h5"
    none = np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32)
    bits = [loaded.bits(torch.from_numpy(new.parts[name])).numpy() for name in new.ids]
    write_locals(stored, new.ids, [LocalDescriptors(row, *none) for row in bits], bits=True, geometry=False)
    with h5py.File(stored) as file:
        assert file["bits"].shape[1] == 128 // 8
    packed = Source(things(1), 1)
    packed.locals = LocalStore(lambda ids: [(stored, new.ids.index(name)) for name in ids]).read  # type: ignore[method-assign]
    projection = {"kind": "ames_bits", "weights": projection_hash(loaded.network)}
    own = dataclasses.replace(
        CARD, settings={"locals": {"count": 12, "stored": 6, "projection": projection}}, local_dimension=128
    )
    loaded = loaded.bind(own)
    np.testing.assert_array_equal(logits(loaded, packed), logits(recipe.reranker, new))


def test_a_student_begins_as_its_teacher_with_bits(teacher: Path) -> None:
    one = AMESReranker.load(teacher, query_locals=12, gallery_locals=12)
    other = AMESReranker(
        AMESNetwork(dataclasses.replace(one.network.shape, binarised=True)), query_locals=12, gallery_locals=12
    )
    source = Source(things(0), 0)
    samples, _ = StoredLocals(source, source.ids, 12).sample()
    start_from_teacher(other.network, one.network, samples, 0)
    new = Source(things(1), 1)
    assert np.corrcoef(logits(one, new).ravel(), logits(other, new).ravel())[0, 1] > 0.7


def test_what_cannot_be_taught_is_one_line(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"needs train_rerank\.ames\.teacher=FILE; .* --reranker ames --out FILE$"):
        student(None)
    with pytest.raises(RelookError, match=r"teacher\.safetensors: a teacher of another size.*ames\.layers=2$"):
        student(teacher, layers=3)
    narrow = dataclasses.replace(CARD, local_dimension=16)
    with pytest.raises(RelookError, match=r"takes local descriptors of 32 values; the index has 16"):
        student(teacher, card=narrow)
    with pytest.raises(RelookError, match=r"trained on another model's descriptors.*weights"):
        student(teacher, card=dataclasses.replace(CARD, weights="sha256:1"))
    bits = tmp_path / "bits.safetensors"
    save_checkpoint(bits, student(teacher).checkpoint())
    with pytest.raises(RelookError, match=r"bits\.safetensors: binarised; a teacher"):
        student(bits)
    with pytest.raises(UsageError, match=r"set train_rerank\.ames\.binarised=true"):
        ames_recipe(training_set(Source(things(0), 0)), config({"teacher": teacher}), 0, "cpu")
    same = config({"binarised": True, "teacher": teacher}, out=teacher)
    with pytest.raises(UsageError, match="the same file"):
        ames_recipe(training_set(Source(things(0), 0)), same, 0, "cpu")


def test_what_cannot_be_learnt_from_is_one_line() -> None:
    projected = dataclasses.replace(CARD, settings={"locals": {"projection": {"kind": "ames", "weights": "x"}}})
    with pytest.raises(RelookError, match=r"projected by ames; .*extract another index"):
        AMESRecipe(training_set(Source(things(0), 0), projected), config(), 0, "cpu")
    with pytest.raises(RelookError, match=r"extract with --set describe\.locals\.count=50"):
        AMESRecipe(training_set(Source(things(0), 0), dataclasses.replace(CARD, local_dimension=0)), config(), 0, "cpu")
    with pytest.raises(ValueError, match="the comparing start needs two"):
        config({"layers": 1})
    with pytest.raises(ValueError, match="least_locals = 7 is more than"):
        config({"least_locals": 7})


def test_the_same_run_twice(tmp_path: Path) -> None:
    runs = []
    for folder in ("a", "b"):
        chosen = config(triplets=64)
        recipe = AMESRecipe(training_set(Source(things(0), 0)), chosen, 0, "cpu")
        runs.append(trained(recipe, chosen, tmp_path / folder))
    assert runs[0] == runs[1]


def test_an_index_of_bits_is_searched_with_the_file_that_made_them(
    tmp_path: Path, small_collection: SmallCollection
) -> None:
    """The whole way: descriptors, a teacher, its student, an index of the student's bits, a search in it."""
    small = ["describe.image.size=128", "describe.globals.scales=[1.0]", "describe.locals.scales=[1.0]"]
    sizes = [f"train_rerank.ames.{name}={value}" for name, value in SMALL.items()]
    learn = ["train_rerank.epochs=1", "train_rerank.triplets=64", "train_rerank.batch_size=16", *sizes]
    raw = [f"index={tmp_path / 'raw'}", *small, "describe.locals.dimension=null", "describe.locals.count=16"]
    extract(load_config(None, raw), str(small_collection.manifest))
    teacher = tmp_path / "teacher.safetensors"
    first = train_rerank(load_config(None, [*raw, *learn, "train_rerank.reranker=ames", f"train_rerank.out={teacher}"]))
    assert first.checkpoint == str(teacher)
    bits = ["train_rerank.ames.binarised=true", f"train_rerank.ames.teacher={teacher}"]
    second = train_rerank(load_config(None, [*raw, *learn, "train_rerank.reranker=ames", *bits]))
    assert second.checkpoint == str(tmp_path / "raw" / "rerankers" / "ames.safetensors")
    projected = [f"index={tmp_path / 'bits'}", *small, f"describe.locals.projection={second.checkpoint}"]
    extract(load_config(None, [*projected, "describe.locals.count=16"]), str(small_collection.manifest))
    scores = []
    for overrides in (raw, [*projected, f"rerank.ames.checkpoint={second.checkpoint}"]):
        config = load_config(None, [*overrides, "rerank.chain=[ames]"])
        gallery = open_gallery(config)
        (look,) = open_chain(config, gallery.index.card)
        names = sorted(gallery.index.records)
        candidates = Candidates(names[:4], [names] * 4, [np.zeros(0, np.float32)] * 4)
        scores.append(np.stack(look.reranker.score(gallery.describe(names[:4], {"locals"}), candidates, gallery)))
    # Descriptors are stored as float16: a value next to 0 may fall on its other side.
    np.testing.assert_allclose(scores[1], scores[0], atol=0.02)
