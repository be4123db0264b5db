"""A training that is killed at any instant and started again is the run that nothing interrupted, to the last bit."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from looping import LOOP, RICH, Toy, curves, run, start, told

from pipeline.train import Progress, Validation

STEPS = 5 * LOOP.epochs


class Instants:
    """Counts what happens in a run and kills the process at the one that is asked for."""

    def __init__(self, fatal: int | str) -> None:
        self.names: list[str] = []
        self._fatal = fatal

    def happens(self, name: str) -> None:
        self.names.append(name)
        if self._fatal in (len(self.names), name):
            os.kill(os.getpid(), signal.SIGKILL)

    def watch_files(self) -> None:
        """Every flush, rename and removal is an instant, just before it."""

        def watched(name: str, function: Any) -> Any:
            def call(*arguments: Any, **options: Any) -> Any:
                self.happens(name)
                return function(*arguments, **options)

            return call

        os.fsync = watched("fsync", lambda descriptor: None)  # a kill, unlike a power cut, loses nothing written
        for name in ("replace", "unlink"):
            setattr(os, name, watched(name, getattr(os, name)))


def train(connection: Any, folder: Path, fatal: int | str) -> None:
    """A run that tells how it went, or is killed at an instant."""
    instants = Instants(fatal)
    task = Toy(**RICH)

    def report(progress: Progress) -> None:
        instants.happens(f"epoch {progress.epoch} step {progress.step} {progress.validation is not None}")

    def save(which: str, validation: Validation) -> None:
        epoch = len([name for name in instants.names if name.startswith("last")]) + 1
        torch.save({"weights": task.state_dict(), "score": validation.score}, folder / f"{which}.pt")
        instants.happens(f"{which} {epoch}")

    instants.watch_files()
    trained = run(folder, task, LOOP, report=report, save=save)
    connection.send((told(folder, task, trained), instants.names))


def finish(folder: Path, fatal: int | str = 0) -> tuple[dict[str, Any], list[str]] | None:
    """Run in another process; None where it was killed."""
    process, connection = start(train, folder, fatal)
    try:
        found = connection.recv()
    except EOFError:
        found = None
    process.join()
    assert process.exitcode == (-signal.SIGKILL if found is None else 0)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[str], Path]:
    """A run that nothing interrupts, the names of its instants, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    found = finish(folder)
    assert found is not None
    return *found, folder


def assert_equal_run(found: tuple[dict[str, Any], list[str]] | None, folder: Path, whole: Any) -> None:
    expected, _, undisturbed = whole
    assert found is not None
    assert found[0] == expected
    assert not (folder / "state").exists()
    shown = curves(folder)
    assert shown == curves(undisturbed)
    assert shown["loss"] == [(n, float(np.float32(loss))) for n, loss in enumerate(expected["losses"], start=1)]
    assert len(shown["loss"]) == STEPS


FATAL = [
    "epoch 1 step 1 False",  # before any state
    "epoch 1 step 5 False",
    "best 1",  # the best checkpoint is there, the state of its epoch is not
    "last 1",
    "epoch 2 step 2 False",
    "epoch 2 step 3 False",
    "epoch 2 step 5 True",
    "unlink",  # everything is done but for the removal of the state
]


@pytest.mark.parametrize("fatal", FATAL)
def test_a_killed_run_goes_on_as_if_nothing_had_been(fatal: str, whole: Any, tmp_path: Path) -> None:
    assert fatal in whole[1]
    assert finish(tmp_path, fatal) is None
    assert_equal_run(finish(tmp_path), tmp_path, whole)


def test_a_run_that_is_killed_again_and_again(whole: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kills = 0
    while (found := finish(tmp_path, int(rng.integers(5, 25)))) is None:
        kills += 1
        assert kills < 40
    assert kills >= 3
    assert_equal_run(found, tmp_path, whole)


def test_a_kill_while_the_state_is_replaced(whole: Any, tmp_path: Path) -> None:
    renames = [number for number, name in enumerate(whole[1], start=1) if name == "replace"]
    for number in (renames[0] - 1, renames[0], renames[1] + 1):
        folder = tmp_path / str(number)
        assert finish(folder, number) is None
        assert_equal_run(finish(folder), folder, whole)


def test_a_run_after_a_finished_one_begins_anew(tmp_path: Path) -> None:
    first, again = (run(tmp_path, Toy()) for _ in range(2))
    assert again.losses == first.losses
    assert [step for step, _ in curves(tmp_path)["loss"]] == list(range(1, STEPS + 1))
