"""Several processes that train together: the losses of one process, and one that fails ends all of them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from looping import LOOP, SECONDS, Toy, run, start, torchrun
from photos import ROOT
from timm.layers.norm_act import BatchNormAct2d
from torch import nn
from torch.distributed import TCPStore

from pipeline.errors import FailedElsewhereError, RelookError
from pipeline.train import Validation
from pipeline.train.loop.distributed import all_reduce_sum, gather_rows, process_group, rank
from pipeline.train.loop.engine import _synchronise_batch_norms, start_run

# What the task does, and what of the settings changes. Batches of 10 end with one of 7, which cannot be shared evenly.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "parts": ({}, {"accumulate": 2}),
    "together": ({"together": True}, {}),
    "together in parts": ({"together": True}, {"accumulate": 3}),
    "seldom": ({"seldom": True}, {}),
    "seldom in parts": ({"seldom": True, "together": True}, {"accumulate": 3}),
    "sgd, unclipped": ({"together": True}, {"optimizer": "sgd", "clip": None, "learning_rate": 0.1}),
}


@pytest.fixture(scope="module")
def shared_runs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes of torchrun found, by case."""
    folder = tmp_path_factory.mktemp("shared")
    done = torchrun(ROOT / "tests" / "support" / "looping.py", folder, json.dumps(CASES))
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{number}.json").read_text()) for number in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_have_the_losses_of_one(name: str, shared_runs: list[dict[str, Any]], tmp_path: Path) -> None:
    options, changes = CASES[name]
    task = Toy(**options)
    alone = run(tmp_path, task, LOOP.model_copy(update=changes))
    first, second = (found[name] for found in shared_runs)
    assert first == second
    np.testing.assert_allclose(first["losses"], alone.losses, rtol=1e-6)
    assert first["best"] == alone.best_epoch
    for key, value in task.state_dict().items():
        np.testing.assert_allclose(np.array(first["weights"][key]), value, rtol=1e-4, atol=1e-6, err_msg=key)


def in_group(connection: Any, number: int, port: int, work: Any, folder: Path) -> None:
    """One of two processes, as torchrun starts them but without the watch that torchrun keeps."""
    os.environ |= {"RANK": str(number), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    try:
        with process_group(torch.device("cpu")):
            found = work(folder)
    except Exception as error:
        found = (type(error).__name__, str(error), getattr(error, "exit_code", None), getattr(error, "__notes__", []))
    connection.send(found)


def together(work: Any, folder: Path) -> list[Any]:
    """What `work(folder)` gives, or raises, in each of two processes; None where a process was killed."""
    # Kept by this process, as torchrun keeps it: it outlives both, so that each can read which one failed.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    started = [start(in_group, number, store.port, work, folder) for number in range(2)]
    found = []
    for process, connection in started:
        assert connection.poll(SECONDS), "a process waits for ever"
        try:
            found.append(connection.recv())
        except EOFError:
            found.append(None)
        process.join(SECONDS)
    return found


def fail_in_validation(folder: Path) -> None:
    def validate() -> Validation:
        raise RelookError("nothing to validate on")

    run(folder, Toy(), validate=validate)


def fail_when_saving(folder: Path) -> None:
    def save(which: str, validation: Validation) -> None:
        raise RelookError("the disk is full")

    run(folder, Toy(), save=save)


class Unreadable(Toy):
    """Its second process cannot read one of its pictures."""

    def load(self, rows: np.ndarray) -> Any:
        if rank() == 1 and 30 in rows:
            raise RelookError("photo 30: damaged")
        return super().load(rows)


class Defective(Toy):
    """Its second process fails in the middle of the network."""

    def forward(self, loaded: Any) -> torch.Tensor:
        if rank() == 1 and 30 in loaded[0]:
            raise ValueError("a defect")
        return super().forward(loaded)


def fail_when_loading(folder: Path) -> None:
    """The picture is in the share of the second process in some epoch."""
    run(folder, Unreadable(), LOOP.model_copy(update={"epochs": 9}))


def fail_in_the_network(folder: Path) -> None:
    run(folder, Defective(), LOOP.model_copy(update={"epochs": 9}))


@pytest.mark.parametrize(
    ("work", "failed", "message"),
    [
        (fail_in_validation, 0, "nothing to validate on"),
        (fail_when_saving, 0, "the disk is full"),
        (fail_when_loading, 1, "photo 30: damaged"),
        (fail_in_the_network, 1, "a defect"),
    ],
)
def test_a_failure_of_one_process_ends_the_other(work: Any, failed: int, message: str, tmp_path: Path) -> None:
    found = together(work, tmp_path)
    code = None if work is fail_in_the_network else 1
    assert found[failed][1:] == (message, code, [f"process {failed}"])
    assert found[1 - failed][0] == FailedElsewhereError.__name__
    assert found[1 - failed][2:] == (1, [])


def same_failure(folder: Path) -> None:
    run(folder, Toy(broken=30))


def test_a_failure_of_all_is_told_by_one(tmp_path: Path) -> None:
    found = together(same_failure, tmp_path)
    said = [error for error in found if error[3]]
    assert len(said) == 1
    assert "the loss is inf in epoch 1, step" in said[0][1]
    assert [error[2] for error in found] == [1, 1]


def one_is_killed(folder: Path) -> None:
    class Killed(Toy):
        def after_step(self) -> None:
            if rank() == 1:
                os.kill(os.getpid(), signal.SIGKILL)

    run(folder, Killed())


def test_a_process_that_is_killed_ends_the_other(tmp_path: Path) -> None:
    found = together(one_is_killed, tmp_path)
    assert found[1] is None
    assert found[0][0] == "RelookError"
    assert "another process of this training was killed" in found[0][1]


def resume_apart(folder: Path) -> None:
    """The second process sees another folder, as on a machine that does not share the first one's disk."""
    run(folder if rank() == 0 else folder / "elsewhere", Toy())


def test_a_state_that_only_one_process_sees_is_refused(tmp_path: Path) -> None:
    def stop(progress: Any) -> None:
        if progress.epoch == 2:
            raise KeyError

    with pytest.raises(KeyError):
        run(tmp_path, Toy(), report=stop)
    found = together(resume_apart, tmp_path)
    assert "state: not the same for all processes" in found[1][1]
    assert found[0][0] == FailedElsewhereError.__name__


def train_twice(folder: Path) -> list[Any]:
    """Patience ends the first run everywhere at once; the second finds no state of it."""
    scores = iter([3.0, 2.0, 1.0])
    short = run(
        folder, Toy(), LOOP.model_copy(update={"epochs": 9, "patience": 2}), validate=lambda: flat(next(scores))
    )
    again = run(folder, Toy())
    return [len(short.history), short.best_epoch, len(again.history)]


def flat(score: float) -> Validation:
    return Validation(score, {"mAP": score})


def test_patience_and_a_second_run(tmp_path: Path) -> None:
    assert together(train_twice, tmp_path) == [[3, 1, LOOP.epochs]] * 2


def exchange(folder: Path) -> list[Any]:
    rows = torch.arange(7)[:, None] * torch.tensor([1, 10])
    own = rows[rank() :: 2]
    return [torch.equal(gather_rows(own), rows), int(all_reduce_sum(own.sum())) == int(rows.sum())]


def test_rows_of_all_processes_come_in_the_order_of_the_batch(tmp_path: Path) -> None:
    assert together(exchange, tmp_path) == [[True, True], [True, True]]


def start_alone_or_not(task: Toy, monkeypatch: pytest.MonkeyPatch, count: int, **changes: Any) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(count))
    start_run(task, LOOP.model_copy(update=changes), 0, torch.device("cpu"))


class Normalised(Toy):
    """Has batch normalisation, frozen or not."""

    def __init__(self, frozen: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self._frozen = frozen

    def train(self, mode: bool = True) -> Normalised:
        super().train(mode)
        if self._frozen:
            self.norm.eval()
        return self


def test_what_cannot_be_divided_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RelookError, match="batch_size = 9 cannot be divided among 2 processes"):
        start_alone_or_not(Toy(), monkeypatch, 2, batch_size=9)
    with pytest.raises(RelookError, match="last batch of an epoch has 7 rows for 10 processes"):
        start_alone_or_not(Toy(), monkeypatch, 10)
    with pytest.raises(RelookError, match="1 layers of batch normalisation would each see only a part"):
        start_alone_or_not(Normalised(frozen=False), monkeypatch, 2)
    start_alone_or_not(Normalised(frozen=True), monkeypatch, 2)
    start_alone_or_not(Normalised(frozen=False), monkeypatch, 1)


def test_batch_normalisation_that_is_not_frozen_is_shared_on_cuda() -> None:
    """The layers change their kind only; none of this needs a device."""
    task = nn.Sequential(nn.BatchNorm1d(4), nn.Sequential(BatchNormAct2d(3)), Normalised(frozen=True)).eval()
    before = {name: id(value) for name, value in task.named_parameters()}
    pictures = torch.randn(2, 3, 5, 5)
    expected = task[1](pictures)
    assert (expected >= 0).all()  # there is a ReLU in the layer, which must not get lost
    _synchronise_batch_norms(task, torch.device("cuda"))  # type: ignore[arg-type]
    assert isinstance(task[0], nn.SyncBatchNorm)
    assert isinstance(task[1][0], nn.SyncBatchNorm)
    assert type(task[2].norm) is nn.BatchNorm1d
    assert {name: id(value) for name, value in task.named_parameters()} == before
    assert torch.equal(task.eval()[1](pictures), expected)
