"""The one training loop: equal runs, every setting by value, checkpoints, and every way to stop."""

from __future__ import annotations

import math
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from looping import COUNT, LOOP, RICH, Toy, run, start, told
from torch import nn

from pipeline.config import LoopConfig
from pipeline.errors import RelookError
from pipeline.train import Progress, Validation, dry_run
from pipeline.train.loop.optimization import Average, make_optimizer, make_schedule

PLAIN = LOOP.model_copy(update={"epochs": 1, "weight_decay": 0.0, "warmup": 0.0, "schedule": "constant", "clip": None})


def changed(**changes: Any) -> LoopConfig:
    return LOOP.model_copy(update=changes)


def scored(*scores: float) -> Any:
    """A validation that gives these scores, one after the other."""
    left = iter(scores)
    return lambda: Validation(score := next(left), {"mAP": score})


def test_the_same_seed_is_the_same_run_and_another_is_not(tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        task = Toy(**RICH)
        found.append(told(tmp_path / name, task, run(tmp_path / name, task, seed=seed)))
    assert found[0] == found[1]
    assert found[0]["losses"] != found[2]["losses"]


def test_it_learns(tmp_path: Path) -> None:
    trained = run(tmp_path, Toy(**RICH), changed(epochs=30))
    assert np.mean(trained.losses[-5:]) < 0.5 * trained.losses[0]
    assert trained.best.metrics["R@1"] == 100


def test_parts_of_a_batch_give_the_loss_of_the_whole(tmp_path: Path) -> None:
    whole, parts, rows = (
        run(tmp_path / str(count), Toy(seldom=True), changed(accumulate=count)).losses for count in (1, 4, 99)
    )
    np.testing.assert_allclose(parts, whole, rtol=1e-6)
    np.testing.assert_allclose(rows, whole, rtol=1e-6)


def test_bfloat16_learns_with_weights_in_float32(tmp_path: Path) -> None:
    task = Toy(together=True)
    exact = run(tmp_path / "a", Toy(together=True)).losses
    mixed = run(tmp_path / "b", task, changed(precision="bfloat16")).losses
    assert mixed != exact
    np.testing.assert_allclose(mixed, exact, rtol=0.05)
    assert {parameter.dtype for parameter in task.parameters()} == {torch.float32}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_optimizer_takes_the_steps_of_its_formula(tmp_path: Path, optimizer: str) -> None:
    """SGD with momentum as torch has it, and Adam (Kingma and Ba, ICLR 2015, algorithm 1), written out."""
    task, other = Toy(), Toy()
    run(tmp_path, task, PLAIN.model_copy(update={"optimizer": optimizer, "momentum": 0.8, "learning_rate": 0.1}))
    learnt = [other.hidden.weight, other.hidden.bias, other.head.weight, other.head.bias]
    ones, twos = ([torch.zeros_like(parameter) for parameter in learnt] for _ in range(2))
    for number, rows in enumerate(other.plan(np.random.default_rng((3, 1))), start=1):
        gradients = torch.autograd.grad(other(other.load(rows)), learnt)
        with torch.no_grad():
            for parameter, gradient, one, two in zip(learnt, gradients, ones, twos, strict=True):
                if optimizer == "sgd":
                    parameter.sub_(0.1 * one.mul_(0.8).add_(gradient))
                else:
                    mean = one.mul_(0.9).add_(0.1 * gradient) / (1 - 0.9**number)
                    spread = two.mul_(0.999).add_(0.001 * gradient**2) / (1 - 0.999**number)
                    parameter.sub_(0.1 * mean / (spread.sqrt() + 1e-8))
    for parameter, expected in zip((task.hidden.weight, task.head.bias), (learnt[0], learnt[3]), strict=True):
        torch.testing.assert_close(parameter, expected, rtol=1e-4, atol=1e-5)


def test_matrices_decay_and_the_rest_does_not() -> None:
    task = Toy()
    decayed = make_optimizer(task, changed(weight_decay=0.3)).param_groups
    found = {id(parameter): group["weight_decay"] for group in decayed for parameter in group["params"]}
    assert found[id(task.hidden.weight)] == 0.3
    assert found[id(task.hidden.bias)] == 0.0
    assert len(found) == len(list(task.parameters()))


def rates(steps: int, **changes: Any) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = make_schedule(optimizer, changed(**changes), steps)
    found = []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0]),
        ("linear", [0.5, 1.0, 1.5, 2.0, 2.0, 1.5, 1.0, 0.5]),
        ("cosine", [0.5, 1.0, 1.5, 2.0, 2.0, 1 + math.sqrt(0.5), 1.0, 1 - math.sqrt(0.5)]),
    ],
)
def test_rates_rise_and_then_follow_the_schedule(schedule: str, expected: list[float]) -> None:
    assert rates(8, schedule=schedule, warmup=0.5) == pytest.approx(expected)


def test_without_a_warm_up_the_first_rate_is_the_full_one() -> None:
    assert rates(4, schedule="linear", warmup=0.0) == pytest.approx([2.0, 1.5, 1.0, 0.5])


def test_groups_keep_their_factor_on_the_rate() -> None:
    class Layered(Toy):
        def groups(self, weight_decay: float) -> list[dict[str, Any]]:
            slow, fast = {"params": self.hidden.parameters(), "lr_scale": 0.1}, {"params": self.head.parameters()}
            return [slow, fast]

    optimizer = make_optimizer(Layered(), changed(learning_rate=1.0))
    schedule = make_schedule(optimizer, changed(warmup=0.5, schedule="constant"), 4)
    assert schedule.get_last_lr() == pytest.approx([0.05, 0.5])


def test_the_norm_of_the_gradient_is_clipped(tmp_path: Path) -> None:
    """One step of plain SGD moves the weights by rate times the clipped norm, however large the gradient was."""
    moved = {}
    for clip in (None, 0.01, 1e9):
        task = Toy()
        before = nn.utils.parameters_to_vector(task.parameters()).detach()
        settings = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.5, "clip": clip}
        stop_after(1, tmp_path / str(clip), task, PLAIN.model_copy(update=settings))
        moved[clip] = float((nn.utils.parameters_to_vector(task.parameters()).detach() - before).norm())
    assert moved[0.01] == pytest.approx(0.5 * 0.01, rel=1e-3)
    assert moved[None] == moved[1e9] > 10 * moved[0.01]


class StopError(Exception):
    """Ends a run from within."""


def stop_after(steps: int, folder: Path, task: Toy, settings: LoopConfig) -> None:
    def report(progress: Progress) -> None:
        if progress.validation is None and (progress.epoch - 1) * progress.steps + progress.step == steps:
            raise StopError

    with pytest.raises(StopError):
        run(folder, task, settings, report=report)


def test_the_average_follows_the_weights_by_value() -> None:
    module = nn.Linear(1, 1, bias=False)
    average = Average(module, 0.5)
    expected = module.weight.item()
    for step in range(1, 25):
        with torch.no_grad():
            module.weight.fill_(float(step))
        average.update()
        decay = min(0.5, step / (step + 9))
        expected = decay * expected + (1 - decay) * step
    assert float(average.values["weight"]) == pytest.approx(expected, rel=1e-6)
    with average.applied():
        assert module.weight.item() == pytest.approx(expected, rel=1e-6)
    assert module.weight.item() == 24.0


def test_the_average_is_validated_and_kept_and_the_weights_go_on(tmp_path: Path) -> None:
    task = Toy()
    seen = []

    def validate() -> Validation:
        assert not task.training
        seen.append(task.head.weight.detach().clone())
        return task.validation()

    run(tmp_path, task, changed(average=0.95), validate=validate)
    assert torch.equal(torch.load(tmp_path / "last.pt")["weights"]["head.weight"], seen[-1])
    assert not torch.equal(task.head.weight, seen[-1])


def test_best_and_last_are_what_they_say(tmp_path: Path) -> None:
    kept = []
    scores = (1.0, 3.0, 2.0, 3.0)
    trained = run(
        tmp_path,
        Toy(),
        changed(epochs=4),
        validate=scored(*scores),
        save=lambda which, validation: kept.append((which, validation.score)),
    )
    assert kept == [("best", 1.0), ("last", 1.0), ("best", 3.0), ("last", 3.0), ("last", 2.0), ("last", 3.0)]
    assert (trained.best_epoch, trained.best.score) == (2, 3.0)
    assert [row["mAP"] for row in trained.history] == list(scores)
    assert trained.history[3]["loss"] == pytest.approx(np.mean(trained.losses[15:]))


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 6), (None, 7)])
def test_patience_ends_a_run(tmp_path: Path, patience: int | None, epochs: int) -> None:
    scores = scored(1, 2, 2, 3, 1, 1, 1)
    trained = run(tmp_path, Toy(), changed(epochs=7, patience=patience), validate=scores)
    assert len(trained.history) == epochs
    assert not (tmp_path / "state").exists()


def test_a_run_that_was_out_of_patience_when_it_was_killed_stays_ended(tmp_path: Path) -> None:
    def report(progress: Progress) -> None:
        if progress.validation is not None and progress.epoch == 3:
            (tmp_path / "state").rename(tmp_path / "before")

    settings = changed(epochs=7, patience=1)
    whole = run(tmp_path, Toy(), settings, validate=scored(1, 2, 2), report=report)
    (tmp_path / "before").rename(tmp_path / "state")
    again = run(tmp_path, Toy(), settings, validate=scored(2))
    assert (again.history, again.losses, again.best_epoch) == (whole.history, whole.losses, 2)


def test_numbers_of_numpy_and_torch_can_be_kept(tmp_path: Path) -> None:
    found = Validation(np.float64(1), {"mAP": np.float32(2)}, {"weight": torch.tensor(0.5)})  # type: ignore[arg-type,dict-item]
    with pytest.raises(StopError):
        run(tmp_path, Toy(), validate=lambda: found, report=stop_in_epoch_two)
    again = run(tmp_path, Toy(), validate=lambda: found)
    assert again.best == Validation(1.0, {"mAP": 2.0}, {"weight": 0.5})


def stop_in_epoch_two(progress: Progress) -> None:
    if progress.epoch == 2:
        raise StopError


@pytest.mark.parametrize("parts", [1, 3])
def test_a_loss_that_is_no_number_stops_with_its_place(tmp_path: Path, parts: int) -> None:
    names = [f"photo {row}" for row in Toy().plan(np.random.default_rng((3, 1)))[1][:, 0].tolist()]
    with pytest.raises(RelookError) as caught:
        run(tmp_path, Toy(broken=int(names[9].split()[1])), changed(accumulate=parts))
    assert f"loss is inf in epoch 1, step 2, of {', '.join(names[:8])} and 2 more; try a smaller" in str(caught.value)


def test_a_gradient_that_is_no_number_stops_before_it_spoils_the_weights(tmp_path: Path) -> None:
    class Steep(Toy):
        def forward(self, loaded: Any) -> torch.Tensor:
            return super().forward(loaded) + (0 * self.head.bias.sum()).sqrt()

    task = Steep()
    for clip in (None, 1.0):
        with pytest.raises(RelookError, match="gradient is nan in epoch 1, step 1, of photo"):
            run(tmp_path, task, changed(clip=clip))
    assert all(torch.isfinite(parameter).all() for parameter in task.parameters())


def test_a_validation_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RelookError, match="validation of epoch 2 gave a score of nan"):
        run(tmp_path, Toy(), validate=scored(1.0, math.nan))


def test_a_state_of_another_run_or_a_torn_one_is_refused(tmp_path: Path) -> None:
    stop_after(7, tmp_path, Toy(), LOOP)
    state = (tmp_path / "state").read_bytes()
    with pytest.raises(RelookError, match="other settings or data; remove it"):
        run(tmp_path, Toy(), identity="another")
    for torn in (b"torn", state[: len(state) // 2], b""):
        (tmp_path / "state").write_bytes(torn)
        with pytest.raises(RelookError, match="cannot be resumed from"):
            run(tmp_path, Toy())
    torch.save({"weights": torch.zeros(3)}, tmp_path / "state")
    with pytest.raises(RelookError, match="cannot be resumed from"):
        run(tmp_path, Toy())
    (tmp_path / "state").write_bytes(state)
    torch.save({**torch.load(tmp_path / "state"), "task": {}}, tmp_path / "state")
    with pytest.raises(RelookError, match="cannot be resumed from"):
        run(tmp_path, Toy())


def test_a_folder_that_cannot_be_written_to_is_said_before_any_step(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file in the way")
    with pytest.raises(RelookError, match="log: cannot be written"):
        run(tmp_path, Toy(), report=lambda progress: pytest.fail("it took a step"))


def fill_the_disk(connection: Any, folder: Path, limit: int) -> None:
    """Files may have so many bytes only: what a full disk does, without one."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        run(folder, Toy(), save=lambda which, validation: None)
    except RelookError as error:
        connection.send(str(error))
    else:
        connection.send("it was written")


@pytest.mark.parametrize(("limit", "file"), [(4000, "state"), (300, "log")])
def test_a_full_disk_ends_in_one_line(tmp_path: Path, limit: int, file: str) -> None:
    process, connection = start(fill_the_disk, tmp_path, limit)
    assert connection.recv() == f"{tmp_path / file}: cannot be written (File too large)"
    process.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log"]


def test_a_tracker_that_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(RelookError, match=r"wandb is not installed; pip install 'relook\[wandb\]'"):
        run(tmp_path, Toy(), changed(trackers=("wandb",)))


def test_weights_and_biases_takes_the_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    settings = changed(trackers=("wandb",))
    stop_after(7, tmp_path, Toy(), settings)
    name = (tmp_path / "log" / "wandb-run-id").read_text()
    run(tmp_path, Toy(), settings)
    assert (tmp_path / "log" / "wandb-run-id").read_text() == name
    assert len(list((tmp_path / "log" / "wandb").glob(f"offline-run-*{name}"))) >= 1
    run(tmp_path, Toy(), settings)
    assert (tmp_path / "log" / "wandb-run-id").read_text() != name


def test_a_dry_run_measures_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = Toy()
    task.rare.requires_grad_(False)
    cost = dry_run(task, LOOP, 3, torch.device("cpu"))
    assert list(tmp_path.iterdir()) == []
    sizes = {"hidden": 13 * 16, "head": 17 * 5, "rare": 13 * 16}
    assert (cost.parameters, cost.trainable) == (sum(sizes.values()), sizes["hidden"] + sizes["head"])
    assert (cost.batches, cost.batch_size, cost.device) == (5, 10, "cpu")
    assert cost.seconds_per_epoch == pytest.approx(5 * cost.seconds_per_step)
    assert 50e6 < cost.memory < 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + 1
    stop_after(7, tmp_path, task, LOOP)
    # The rest are names, and losses: a float each.
    assert (tmp_path / "state").stat().st_size == pytest.approx(cost.state, rel=0.02)
    run(tmp_path, task)


@pytest.mark.parametrize("rows", [COUNT, 24])
def test_a_dry_run_of_few_steps(rows: int) -> None:
    class Short(Toy):
        def plan(self, rng: np.random.Generator) -> list[Any]:
            return np.array_split(rng.permutation(COUNT)[:rows, None], 2 if rows == 24 else 1)

    cost = dry_run(Short(), LOOP, 3, torch.device("cpu"))
    assert cost.batches == (2 if rows == 24 else 1)
    assert cost.seconds_per_step > 0
