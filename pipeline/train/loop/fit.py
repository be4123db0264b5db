"""The one training loop: epochs, validation, best and last checkpoint, early stop, resume, log.

Every trainer of relook is a `Task` that this loop runs. An epoch's batches follow from (seed, epoch) and a step's
noise from (seed, epoch, step) alone, so that a run which was killed and started again goes through the same steps as
one that was not, and several processes draw the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.config import LoopConfig
from pipeline.errors import RelookError
from pipeline.files import write_errors
from pipeline.train.loop.distributed import broadcast_from_first, rank
from pipeline.train.loop.engine import Engine, Progress, begin
from pipeline.train.loop.state import Run
from pipeline.train.loop.task import Task, Validation
from pipeline.train.loop.trackers import Tracker, tracking


@dataclass(frozen=True)
class Trained:
    """The result: what the best epoch was, one row of numbers per epoch, and the loss of every step."""

    best_epoch: int
    best: Validation
    history: list[dict[str, float]]
    losses: list[float]
    seconds: float


@dataclass(frozen=True)
class Files:
    """Where a run keeps itself: `state` to go on from after a kill, removed at the end; `log` for the trackers."""

    state: Path
    log: Path


def fit(
    task: Task,
    settings: LoopConfig,
    validate: Callable[[], Validation],
    save: Callable[[str, Validation], None],
    *,
    files: Files,
    identity: str,
    seed: int,
    device: torch.device,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Trained:
    """Train a task.

    Args:
        task: what is trained; it is moved to `device`.
        settings: how.
        validate: called after every epoch, with the averaged weights in evaluation mode.
        save: called after every epoch as save("last", validation), and before that as save("best", validation) where it
            is the best so far; with the averaged weights.
        files: where it keeps itself; what it finds there of the same `identity` it goes on from.
        identity: equal for runs whose state can be shared: settings and data.
        seed: of batches and noise.
        device: where it runs.
        report: told after every step and every validation.

    Under torchrun all processes call it, within `joined`; the first one validates, saves and reports, so `validate` may
    not talk to the others.

    Raises:
        RelookError: a loss, gradient or validation is not a number (the message names epoch, step and pictures), the
            state is of another run, something cannot be written, or batches cannot be divided among the processes.
    """
    started = time.monotonic()
    run = begin(task, settings, seed, device)
    run.resume(files.state, identity)
    _check_together(run, files)
    engine = Engine(run, settings, seed, device)

    def keep(tracker: Tracker) -> None:
        if rank() == 0:
            tracker.flush()  # what the state counts as done has to be in the log
            run.save(files.state, identity, run.seconds + time.monotonic() - started)

    with _tracked(settings, files, run) as tracker:
        while run.epoch <= settings.epochs and not _stopped(run, settings):
            for progress in engine.epoch():
                _tell(report, progress)
                tracker.log({"loss": run.losses[-1], "rate": progress.rate}, run.steps_done)
                if progress.step % settings.save_every == 0 and progress.step < progress.steps:
                    keep(tracker)
            loss = sum(run.losses[-run.steps :]) / run.steps
            validation = _validated(run, validate, save)
            _tell(report, Progress(run.epoch, run.steps, run.steps, loss, progress.rate, validation))
            run.history.append({"epoch": run.epoch, "loss": loss, **validation.metrics})
            tracker.log(validation.metrics, run.steps_done)
            run.epoch, run.step = run.epoch + 1, 0
            keep(tracker)
    if rank() == 0:
        with write_errors(files.state):
            files.state.unlink(missing_ok=True)
    broadcast_from_first(None)  # the others must not meet the state again, should they train once more
    assert run.best is not None  # epochs is at least 1
    seconds = round(run.seconds + time.monotonic() - started, 1)
    return Trained(run.best_epoch, run.best, run.history, run.losses, seconds)


def _validated(run: Run, validate: Callable[[], Validation], save: Callable[[str, Validation], None]) -> Validation:
    """Validate with the averaged weights on the first process, save there, and remember the best everywhere."""
    found = None
    run.task.eval()
    if rank() == 0:
        with run.average.applied():
            found = _numbers(validate(), run.epoch)
            if _better(found, run):
                save("best", found)
            save("last", found)
    validation: Validation = broadcast_from_first(found)
    if _better(validation, run):
        run.best, run.best_epoch = validation, run.epoch
    return validation


def _better(validation: Validation, run: Run) -> bool:
    """Of equals the earlier one; where nothing is validated the last epoch is the best."""
    if validation.score is None or run.best is None or run.best.score is None:
        return True
    return validation.score > run.best.score


def _numbers(validation: Validation, epoch: int) -> Validation:
    """The same in Python's own numbers, which a state can hold; nothing compares with a score that is none."""
    if validation.score is not None and not math.isfinite(validation.score):
        raise RelookError(f"the validation of epoch {epoch} gave a score of {validation.score}, which is not finite")
    metrics, extra = (
        {name: float(value) for name, value in values.items()} for values in (validation.metrics, validation.extra)
    )
    return Validation(None if validation.score is None else float(validation.score), metrics, extra)


def _stopped(run: Run, settings: LoopConfig) -> bool:
    """Whether the last epochs brought nothing better."""
    return settings.patience is not None and len(run.history) - run.best_epoch >= settings.patience > 0


def _check_together(run: Run, files: Files) -> None:
    """Processes on several machines may not all see the state."""
    place = (run.epoch, run.step)
    if place != broadcast_from_first(place):
        raise RelookError(f"{files.state}: not the same for all processes; put it where all of them see it (out)")


def _tell(report: Callable[[Progress], None], progress: Progress) -> None:
    if rank() == 0:
        report(progress)


def _tracked(settings: LoopConfig, files: Files, run: Run) -> AbstractContextManager[Tracker]:
    if rank() == 0:
        return tracking(settings.trackers, files.log, settings.model_dump(mode="json"), run.steps_done)
    return nullcontext(_Nobody())


class _Nobody:
    """The other processes log nothing."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker.log`."""

    def flush(self) -> None:
        """See `Tracker.flush`."""
