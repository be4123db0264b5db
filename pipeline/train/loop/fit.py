"""The training loop: epochs, validation, best and last checkpoint, early stopping, resume, log.

Runs any `TrainingTask`. An epoch's batches follow from (seed, epoch) and a step's random numbers from (seed, epoch,
step) alone, so that a run which was killed and resumed takes the same steps as one that was not, and several processes
draw the same numbers.
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
from pipeline.train.loop.engine import Engine, Progress, start_run
from pipeline.train.loop.state import Run
from pipeline.train.loop.task import TrainingTask, Validation
from pipeline.train.loop.trackers import Tracker, tracking


@dataclass(frozen=True)
class FitResult:
    """The result of a training.

    Attributes:
        best_epoch, best: the best epoch, from 1, and its validation.
        history: metrics by name for each epoch.
        losses: of every step.
        seconds: in all, before a kill as well.
    """

    best_epoch: int
    best: Validation
    history: list[dict[str, float]]
    losses: list[float]
    seconds: float


@dataclass(frozen=True)
class RunFiles:
    """Files of a run: `state`, from which a killed run resumes, removed at the end; `log`, a folder for trackers."""

    state: Path
    log: Path


def fit(
    task: TrainingTask,
    settings: LoopConfig,
    validate: Callable[[], Validation],
    save: Callable[[str, Validation], None],
    *,
    files: RunFiles,
    identity: str,
    seed: int,
    device: torch.device,
    report: Callable[[Progress], None] = lambda progress: None,
) -> FitResult:
    """Train a task.

    Args:
        task: what is trained; it is moved to `device`.
        settings: of the loop.
        validate: called after every epoch, with the averaged weights in evaluation mode.
        save: called after every epoch as save("last", validation), and before that as save("best", validation) if it
            is the best so far; with the averaged weights.
        files: state and log; a state of the same `identity` is resumed.
        identity: equal for runs whose state can be shared: settings and data.
        seed: of batches and random numbers.
        device: where it runs.
        report: called after every step and every validation.

    Under torchrun all processes call it, within `process_group`; only the first one validates, saves and reports, so
    `validate` must not communicate with the others.

    Raises:
        RelookError: a loss, gradient or validation is not finite (the message names epoch, step and images), the state
            is of another run, something cannot be written, or batches cannot be divided among the processes.
    """
    started = time.monotonic()
    run = start_run(task, settings, seed, device)
    run.resume(files.state, identity)
    _check_same_state(run, files)
    engine = Engine(run, settings, seed, device)
    with _open_tracker(settings, files, run) as tracker:
        loop = _Loop(run, engine, settings, tracker, files.state, identity, started, report)
        while run.epoch <= settings.epochs and not _stops_early(run, settings):
            loop.epoch(validate, save)
    if rank() == 0:
        with write_errors(files.state):
            files.state.unlink(missing_ok=True)
    broadcast_from_first(None)  # the others must not find the state again, should they train once more
    assert run.best is not None  # epochs is at least 1
    return FitResult(run.best_epoch, run.best, run.history, run.losses, round(loop.seconds, 1))


@dataclass(frozen=True)
class _Loop:
    """Runs epochs; the arguments that are the same in all of them."""

    run: Run
    engine: Engine
    settings: LoopConfig
    tracker: Tracker
    state: Path
    identity: str
    started: float
    report: Callable[[Progress], None]

    @property
    def seconds(self) -> float:
        """Spent on the run so far, before a kill as well."""
        return self.run.seconds + time.monotonic() - self.started

    def epoch(self, validate: Callable[[], Validation], save: Callable[[str, Validation], None]) -> None:
        """The remaining steps of an epoch, then its validation."""
        run = self.run
        for progress in self.engine.epoch():
            self._report(progress)
            self.tracker.log({"loss": run.losses[-1], "rate": progress.rate}, run.steps_done)
            if progress.step % self.settings.save_every == 0 and progress.step < progress.steps:
                self._save_state()
        loss = sum(run.losses[-run.steps :]) / run.steps
        validation = _validate(run, validate, save)
        self._report(Progress(run.epoch, run.steps, run.steps, loss, progress.rate, validation))
        run.history.append({"epoch": run.epoch, "loss": loss, **validation.metrics})
        self.tracker.log(validation.metrics, run.steps_done)
        run.epoch, run.step = run.epoch + 1, 0
        self._save_state()

    def _report(self, progress: Progress) -> None:
        if rank() == 0:
            self.report(progress)

    def _save_state(self) -> None:
        if rank() == 0:
            self.tracker.flush()  # what the state counts as done must be in the log
            self.run.save(self.state, self.identity, self.seconds)


def _validate(run: Run, validate: Callable[[], Validation], save: Callable[[str, Validation], None]) -> Validation:
    """Validate and save with the averaged weights, on the first process; all processes get the result."""
    found = None
    run.task.eval()
    if rank() == 0:
        with run.average.applied():
            found = _checked(validate(), run.epoch)
            if _is_best(found, run):
                save("best", found)
            save("last", found)
    validation: Validation = broadcast_from_first(found)
    if _is_best(validation, run):
        run.best, run.best_epoch = validation, run.epoch
    return validation


def _is_best(validation: Validation, run: Run) -> bool:
    """Whether it is better than all before; without a score every epoch is, so that the last one counts."""
    if validation.score is None or run.best is None or run.best.score is None:
        return True
    return validation.score > run.best.score


def _checked(validation: Validation, epoch: int) -> Validation:
    """The validation in Python floats, which a state can hold. Raises RelookError if its score is not finite."""
    if validation.score is not None and not math.isfinite(validation.score):
        raise RelookError(f"the validation of epoch {epoch} gave a score of {validation.score}, which is not finite")
    metrics, extra = (
        {name: float(value) for name, value in values.items()} for values in (validation.metrics, validation.extra)
    )
    return Validation(None if validation.score is None else float(validation.score), metrics, extra)


def _stops_early(run: Run, settings: LoopConfig) -> bool:
    """Whether the last `patience` epochs were not better."""
    return settings.patience is not None and len(run.history) - run.best_epoch >= settings.patience > 0


def _check_same_state(run: Run, files: RunFiles) -> None:
    """Raises RelookError if not all processes read the same state, such as on several machines."""
    place = (run.epoch, run.step)
    if place != broadcast_from_first(place):
        raise RelookError(f"{files.state}: not the same for all processes; put it where all of them see it (out)")


def _open_tracker(settings: LoopConfig, files: RunFiles, run: Run) -> AbstractContextManager[Tracker]:
    if rank() == 0:
        return tracking(settings.trackers, files.log, settings.model_dump(mode="json"), run.steps_done)
    return nullcontext(_NoTracker())


class _NoTracker:
    """Logs nothing, in all processes but the first."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See `Tracker.log`."""

    def flush(self) -> None:
        """See `Tracker.flush`."""
