"""Training: mining, sessions, projections, where a network starts from, and that it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import LoopConfig
from pipeline.rerank.rrt.network import RRTNetwork, RRTShape, Tokens
from pipeline.train import MiningError, RunFiles, Validation, fit, hold_out_labels, hold_out_sessions
from pipeline.train.data.hold_out import find_sessions, halves
from pipeline.train.data.triplets import Triplets
from pipeline.train.init.rrt import start_comparing
from pipeline.train.init.whitening import Whitening, within_class_whitening
from pipeline.train.rerankers.rrt import RRTTask

LOOP = LoopConfig(epochs=4, batch_size=16, learning_rate=3e-3, weight_decay=0.0, warmup=0.1, save_every=3)


def collection(labels: int = 8, members: int = 5) -> tuple[list[str], Tokens]:
    """Pictures whose globals say nothing and whose locals tell their label."""
    rng = np.random.default_rng(0)
    count = labels * members
    names = [str(row // members) for row in range(count)]
    prototypes = rng.standard_normal((labels, 1, 32))
    parts = prototypes.repeat(members, 0) + 0.3 * rng.standard_normal((count, 6, 32))
    return names, Tokens(
        torch.from_numpy(rng.standard_normal((count, 32)).astype(np.float32)),
        torch.from_numpy(parts.astype(np.float32)),
        torch.zeros(count, 6, dtype=torch.int64),
        torch.zeros(count, 6, dtype=torch.bool),
    )


def task(per_epoch: int = 160) -> RRTTask:
    names, tokens = collection()
    everyone = np.arange(len(names))
    triplets = Triplets(names, [everyone[everyone != row] for row in everyone], [0] * len(names))
    torch.manual_seed(0)
    shape = RRTShape(
        d_global=32, d_model=32, heads=4, layers=2, feedforward=64, dropout=0.1, scale_rule="nearest", token_length=5.7
    )
    network = RRTNetwork(shape)
    start_comparing(network, Whitening(np.eye(32, dtype=np.float32), np.zeros(32, np.float32)))
    return RRTTask(network, tokens, triplets, [f"photo {row}" for row in everyone], per_epoch, 16)


def test_triplets_are_what_they_say() -> None:
    names = ["a", "a", "a", "b", "b", "", "c"]
    candidates = [np.array([other for other in range(7) if other != row]) for row in range(7)]
    triplets = Triplets(names, candidates, [0] * 7)
    assert triplets.anchors.tolist() == [0, 1, 2, 3, 4]
    drawn = triplets.epoch(250, np.random.default_rng(0))
    assert drawn.shape == (250, 3)
    for anchor, positive, negative in drawn:
        assert names[anchor] == names[positive]
        assert anchor != positive
        assert names[negative] != names[anchor]
    assert {5, 6} <= set(drawn[:, 2].tolist())


def test_negatives_come_from_the_candidates_only() -> None:
    names = ["a", "a", "b", "b", "c"]
    candidates = [np.array([1, 2]), np.array([0, 2]), np.array([3, 4]), np.array([2, 4]), np.array([0])]
    drawn = Triplets(names, candidates, [0] * 5).epoch(100, np.random.default_rng(0))
    assert set(drawn[drawn[:, 0] < 2, 2].tolist()) == {2}
    assert set(drawn[drawn[:, 0] >= 2, 2].tolist()) == {4}


def test_nothing_to_learn_from_is_said() -> None:
    everyone = [np.array([1]), np.array([0])]
    for names in (["", ""], ["a", "b"], ["a", "a"]):
        with pytest.raises(MiningError, match="no triplets"):
            Triplets(names, everyone, [0, 0])


@st.composite
def labelled(draw: st.DrawFn) -> tuple[list[str], np.ndarray]:
    """Labels and vectors in which each label's pictures come in bursts."""
    sizes = draw(st.lists(st.integers(1, 30), min_size=1, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 20)))
    labels = [str(number) for number, size in enumerate(sizes) for _ in range(size)] + [""] * draw(st.integers(0, 9))
    bursts = rng.standard_normal((len(labels), 6))[np.arange(len(labels)) // 3 * 3]
    vectors = bursts + 0.05 * rng.standard_normal(bursts.shape)
    return labels, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@given(collected=labelled(), fraction=st.floats(0.05, 0.4), seed=st.integers(0, 3))
@settings(max_examples=60)
def test_held_out_parts_can_be_scored_and_leave_enough(
    collected: tuple[list[str], np.ndarray], fraction: float, seed: int
) -> None:
    labels, vectors = collected
    parts = hold_out_sessions(labels, vectors, fraction, seed)
    learn, validate = set(parts.train.tolist()), set(parts.validate.tolist())
    assert not learn & validate
    again = hold_out_sessions(labels, vectors, fraction, seed)
    assert again.validate.tolist() == parts.validate.tolist()
    for label in set(labels) - {""}:
        rows = {row for row, name in enumerate(labels) if name == label}
        assert not rows & validate or (len(rows & validate) >= 2 and len(rows & learn) >= 3)


@given(collected=labelled(), fraction=st.floats(0.05, 0.4), seed=st.integers(0, 3))
@settings(max_examples=60)
def test_held_out_labels_are_held_out_whole(
    collected: tuple[list[str], np.ndarray], fraction: float, seed: int
) -> None:
    labels, _ = collected
    parts = hold_out_labels(labels, fraction, seed)
    assert sorted([*parts.train.tolist(), *parts.validate.tolist()]) == list(range(len(labels)))
    learnt, held = ({labels[row] for row in rows} - {""} for rows in (parts.train, parts.validate))
    assert not learnt & held
    several = [label for label in set(labels) - {""} if labels.count(label) > 1]
    assert len(held) >= 2 if len(several) >= 4 else True
    assert not held or len(learnt & set(several)) >= 2


@given(collected=labelled())
@settings(max_examples=30)
def test_halves_share_every_label_and_keep_sessions_together(collected: tuple[list[str], np.ndarray]) -> None:
    labels, vectors = collected
    half = halves(labels, vectors)
    assert set(half.tolist()) <= {0, 1}
    for label in set(labels) - {""}:
        rows = [row for row, name in enumerate(labels) if name == label]
        if len(rows) >= 8:
            assert set(half[rows].tolist()) == {0, 1}


def test_sessions_are_the_bursts() -> None:
    rng = np.random.default_rng(0)
    bursts = rng.standard_normal((5, 16)).repeat(4, axis=0)
    vectors = bursts + 0.05 * rng.standard_normal(bursts.shape)
    sessions = find_sessions((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))
    assert [len(set(sessions[start : start + 4].tolist())) for start in range(0, 20, 4)] == [1] * 5
    assert len(set(sessions.tolist())) == 5


def test_within_class_whitening_ignores_what_varies_within() -> None:
    rng = np.random.default_rng(0)
    labels = [str(row % 10) for row in range(400)]
    told = rng.standard_normal((10, 3))[[int(label) for label in labels]]
    noise = 10 * rng.standard_normal((400, 2))
    vectors = np.concatenate([told + 0.1 * rng.standard_normal(told.shape), noise], axis=1).astype(np.float32)
    projected = within_class_whitening(vectors, labels, 3, 1e-3).apply(vectors)
    assert projected.shape == (400, 3)
    assert np.abs(np.corrcoef(projected.T, noise.T)[:3, 3:]).max() < 0.2
    loose = within_class_whitening(np.concatenate([vectors, 99 * vectors]), [*labels, *[""] * 400], 3, 1e-3)
    np.testing.assert_allclose(loose.apply(vectors), projected, atol=1e-4)


def test_labels_without_variation_do_not_break_the_whitening() -> None:
    vectors = np.eye(4, dtype=np.float32).repeat(2, axis=0)
    labels = ["a", "a", "b", "b", "c", "c", "d", "d"]
    assert np.isfinite(within_class_whitening(vectors, labels, 3, 0.3).apply(vectors)).all()
    assert set(halves(labels, vectors).tolist()) == {0, 1}


def test_a_comparing_start_tells_likeness_before_any_training() -> None:
    """Descriptors that were never seen: the token of the classifier must depend on whether both sides are alike."""
    torch.manual_seed(0)
    shape = RRTShape(
        d_global=64, d_model=64, heads=4, layers=2, feedforward=128, scale_rule="nearest", token_length=8.0
    )
    network = RRTNetwork(shape).eval()
    rng = np.random.default_rng(0)
    start_comparing(network, Whitening(np.eye(64, dtype=np.float32), np.zeros(64, np.float32)))
    assert not network.remap.weight.requires_grad
    one = torch.from_numpy(rng.standard_normal((200, 5, 64)).astype(np.float32))
    like = one + 0.3 * torch.from_numpy(rng.standard_normal((200, 5, 64)).astype(np.float32))
    layer = network.encoder.layers[0]
    left = []
    for target in (like, like.roll(1, 0)):
        seen: list[torch.Tensor] = []
        handle = layer.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output))
        with torch.inference_mode():
            network(_tokens(one), _tokens(target))
        handle.remove()
        source = seen[0][:, 2:7]
        cosine = torch.nn.functional.cosine_similarity(source, one, dim=-1).abs().mean()
        left.append(float(cosine))
    # Where the other image has the like of a token, it is subtracted from it.
    assert left[0] < 0.8 * left[1]


def _tokens(locals_: torch.Tensor) -> Tokens:
    count, length = locals_.shape[:2]
    return Tokens(
        locals_[:, 0],
        locals_,
        torch.zeros(count, length, dtype=torch.int64),
        torch.zeros(count, length, dtype=torch.bool),
    )


def test_it_learns_what_locals_tell(tmp_path: Path) -> None:
    learnt = task(per_epoch=640)
    trained = fit(
        learnt,
        LOOP,
        lambda: Validation(0.0, {}),
        lambda which, validation: None,
        files=RunFiles(tmp_path / "state", tmp_path / "log"),
        identity="x",
        seed=3,
        device=torch.device("cpu"),
    )
    assert np.mean(trained.losses[-40:]) < 0.2 * trained.losses[0]
