"""Training: mining, the loop's resume, and that a network learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import RelookError
from pipeline.rerank.rrt_network import RRTNetwork, RRTShape, Tokens
from pipeline.stages.train_rerank import hold_out
from pipeline.train import MiningError, Progress, RRTTask, Triplets, Validation, fit
from pipeline.train.loop import Schedule

SCHEDULE = Schedule(epochs=4, learning_rate=3e-3, weight_decay=0.0, warmup=0.1, seed=3)


def collection(labels: int = 8, members: int = 5) -> tuple[list[str], Tokens]:
    """Pictures whose globals say nothing and whose locals tell their label."""
    rng = np.random.default_rng(0)
    count = labels * members
    names = [str(row // members) for row in range(count)]
    prototypes = rng.standard_normal((labels, 1, 32))
    parts = prototypes.repeat(members, 0) + 0.3 * rng.standard_normal((count, 6, 32))
    return names, Tokens(
        torch.from_numpy(rng.standard_normal((count, 16)).astype(np.float32)),
        torch.from_numpy(parts.astype(np.float32)),
        torch.zeros(count, 6, dtype=torch.int64),
        torch.zeros(count, 6, dtype=torch.bool),
    )


def task(per_anchor: int = 4) -> RRTTask:
    names, tokens = collection()
    everyone = np.arange(len(names))
    triplets = Triplets(names, [everyone[everyone != row] for row in everyone])
    torch.manual_seed(0)
    shape = RRTShape(d_global=16, d_model=32, heads=2, layers=2, feedforward=64, dropout=0.1, scale_rule="nearest")
    return RRTTask(RRTNetwork(shape), tokens, triplets, per_anchor, 16, torch.device("cpu"))


def run(folder: Path, learnt: RRTTask, schedule: Schedule = SCHEDULE, report=lambda progress: None, identity="x"):
    return fit(
        learnt,
        schedule,
        lambda: Validation(float(sum(p.detach().abs().sum() for p in learnt.network.parameters())), {"mAP": 1.0}),
        lambda validation: None,
        state_file=folder / "state",
        log_dir=folder / "log",
        identity=identity,
        report=report,
    )


def test_triplets_are_what_they_say() -> None:
    names = ["a", "a", "a", "b", "b", "", "c"]
    candidates = [np.array([other for other in range(7) if other != row]) for row in range(7)]
    triplets = Triplets(names, candidates)
    assert triplets.anchors.tolist() == [0, 1, 2, 3, 4]
    drawn = triplets.epoch(50, np.random.default_rng(0))
    assert drawn.shape == (250, 3)
    for anchor, positive, negative in drawn:
        assert names[anchor] == names[positive]
        assert anchor != positive
        assert names[negative] != names[anchor]
    assert {5, 6} <= set(drawn[:, 2].tolist())


def test_negatives_come_from_the_candidates_only() -> None:
    names = ["a", "a", "b", "b", "c"]
    candidates = [np.array([1, 2]), np.array([0, 2]), np.array([3, 4]), np.array([2, 4]), np.array([0])]
    drawn = Triplets(names, candidates).epoch(20, np.random.default_rng(0))
    assert set(drawn[drawn[:, 0] < 2, 2].tolist()) == {2}
    assert set(drawn[drawn[:, 0] >= 2, 2].tolist()) == {4}


def test_nothing_to_learn_from_is_said() -> None:
    everyone = [np.array([1]), np.array([0])]
    for names in (["", ""], ["a", "b"], ["a", "a"]):
        with pytest.raises(MiningError, match="nothing to learn from"):
            Triplets(names, everyone)


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    loose=st.integers(0, 20),
    fraction=st.floats(0.05, 0.5),
    seed=st.integers(0, 5),
)
@settings(deadline=None)
def test_held_out_parts_can_be_scored_and_leave_enough(
    sizes: list[int], loose: int, fraction: float, seed: int
) -> None:
    labels = [str(number) for number, size in enumerate(sizes) for _ in range(size)] + [""] * loose
    held = hold_out(labels, fraction, seed)
    assert held == hold_out(labels, fraction, seed)
    for number, size in enumerate(sizes):
        out = sum(labels[row] == str(number) for row in held)
        assert out == 0 or (out >= 2 and size - out >= 3)


def test_it_learns_what_locals_tell(tmp_path: Path) -> None:
    losses: list[float] = []
    learnt = task(per_anchor=24)
    schedule = Schedule(epochs=8, learning_rate=2e-3, weight_decay=0.0, warmup=0.1, seed=0)
    run(tmp_path, learnt, schedule, lambda progress: losses.append(progress.loss))
    assert losses[-1] < 0.1 * losses[0]
    assert list((tmp_path / "log").glob("events*"))


def test_the_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    assert run(tmp_path / "a", task()).history == run(tmp_path / "b", task()).history


@pytest.mark.parametrize("epoch", [2, 3])
def test_a_resumed_run_equals_one_that_was_not_stopped(tmp_path: Path, epoch: int) -> None:
    class StopError(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.epoch == epoch and progress.step == 5:
            raise StopError

    whole_task, stopped_task, resumed_task = task(), task(), task()
    whole = run(tmp_path / "whole", whole_task)
    with pytest.raises(StopError):
        run(tmp_path / "parts", stopped_task, report=stop)
    resumed = run(tmp_path / "parts", resumed_task)
    assert resumed.history == whole.history
    assert resumed.best_epoch == whole.best_epoch
    for one, two in zip(whole_task.network.parameters(), resumed_task.network.parameters(), strict=True):
        assert torch.equal(one, two)
    assert not (tmp_path / "parts" / "state").exists()


def test_a_state_of_another_run_is_not_taken(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.epoch == 2:
            raise StopError

    with pytest.raises(StopError):
        run(tmp_path, task(), report=stop)
    with pytest.raises(RelookError, match="other settings or data"):
        run(tmp_path, task(), identity="another")
    (tmp_path / "state").write_bytes(b"torn")
    with pytest.raises(RelookError, match="cannot be resumed"):
        run(tmp_path, task())


def test_a_loss_that_is_no_number_stops_with_its_place(tmp_path: Path) -> None:
    learnt = task()
    with torch.no_grad():
        learnt.network.classifier.bias.fill_(float("nan"))
    with pytest.raises(RelookError, match="nan in epoch 1, step 1"):
        run(tmp_path, learnt)
