"""The one training loop: steps, schedule, validation, best and last checkpoint, early stop, resume, log.

Every trainer of relook is a `Task` that this loop runs. An epoch's batches follow from (seed, epoch) and a step's
noise from (seed, epoch, step) alone, so that a run which was killed and started again goes through the same steps as
one that was not, and several processes draw the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.config import LoopConfig
from pipeline.describe.ahead import ahead
from pipeline.errors import RelookError
from pipeline.train.distributed import from_first, processes, rank, total
from pipeline.train.optimization import Average, make_optimizer, make_schedule
from pipeline.train.state import Run
from pipeline.train.task import Rows, Task, Validation
from pipeline.train.trackers import Tracker, tracking

# Batches that are read ahead, and threads that do it.
_AHEAD = 4
_READERS = 4
# Ids that an error names at most.
_NAMED = 8


@dataclass(frozen=True)
class Progress:
    """Where a run stands, after every step: losses are means over the epoch so far."""

    epoch: int
    step: int
    steps: int
    loss: float
    validation: Validation | None = None


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
        save: called after every epoch as save("last", validation), and as save("best", validation) where it is the
            best so far; with the averaged weights.
        files: where it keeps itself; what it finds there of the same `identity` it goes on from.
        identity: equal for runs whose state can be shared: settings and data.
        seed: of batches and noise.
        device: where it runs.
        report: told after every step and every validation.

    Under torchrun all processes call it; the first one validates, saves and reports.

    Raises:
        RelookError: the loss is not a number (the message names epoch, step and pictures), the state is of another run,
            or `batch_size` cannot be divided among the processes.
    """
    _check_division(settings)
    started = time.monotonic()
    task.to(device)
    steps = len(task.plan(np.random.default_rng((seed, 1))))
    optimizer = make_optimizer(task, settings)
    run = Run(
        task,
        optimizer,
        make_schedule(optimizer, settings, settings.epochs * steps),
        Average(task, settings.average),
    )
    run.resume(files.state, identity, device)
    engine = _Engine(run, settings, seed, device)
    shown = report if rank() == 0 else lambda progress: None

    def keep() -> None:
        if rank() == 0:
            run.save(files.state, identity, run.seconds + time.monotonic() - started)

    with _tracked(settings, files, run) as tracker:
        while run.epoch <= settings.epochs and not _stopped(run, settings):
            for progress in engine.epoch():
                shown(progress)
                tracker.log({"loss": run.losses[-1], "rate": float(run.rates.get_last_lr()[0])}, run.steps_done)
                if progress.step % settings.save_every == 0 and progress.step < steps:
                    keep()
            loss = sum(run.losses[-steps:]) / steps
            validation = _validated(run, validate, save)
            shown(Progress(run.epoch, steps, steps, loss, validation))
            run.history.append({"epoch": run.epoch, "loss": loss, **validation.metrics})
            tracker.log(validation.metrics, run.steps_done)
            run.epoch, run.step = run.epoch + 1, 0
            keep()
    if rank() == 0:
        files.state.unlink(missing_ok=True)
    assert run.best is not None  # epochs is at least 1
    seconds = round(run.seconds + time.monotonic() - started, 1)
    return Trained(run.best_epoch, run.best, run.history, run.losses, seconds)


class _Engine:
    """Takes the steps of a run."""

    def __init__(self, run: Run, settings: LoopConfig, seed: int, device: torch.device) -> None:
        self._run, self._settings, self._seed, self._device = run, settings, seed, device
        self._model: nn.Module = run.task
        if processes() > 1:
            self._model = DistributedDataParallel(run.task, broadcast_buffers=False)

    def epoch(self) -> Iterator[Progress]:
        """The steps of the epoch that are left."""
        run = self._run
        run.task.train()
        plan = run.task.plan(np.random.default_rng((self._seed, run.epoch)))
        left = plan[run.step :]
        shares = [self._shares(rows) for rows in left]
        loaded = ahead(lambda parts: [run.task.load(part) for part in parts], shares, _READERS, _AHEAD)
        for rows, parts, inputs in zip(left, shares, loaded, strict=True):
            loss = self._step(rows, parts, inputs)
            run.losses.append(loss)
            run.step += 1
            yield Progress(run.epoch, run.step, len(plan), sum(run.losses[-run.step :]) / run.step)

    def _shares(self, rows: Rows) -> list[Rows]:
        """This process's part of a batch, in as many parts as it passes the network in."""
        own = rows[rank() :: processes()]
        return np.array_split(own, min(self._settings.accumulate, len(own)))

    def _step(self, rows: Rows, parts: list[Rows], inputs: list[Any]) -> float:
        run, settings = self._run, self._settings
        mixed = np.random.SeedSequence((self._seed, run.epoch, run.step)).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(mixed >> 1))
        run.optimizer.zero_grad(set_to_none=True)
        summed = torch.zeros((), device=self._device)
        for number, (part, loaded) in enumerate(zip(parts, inputs, strict=True)):
            last = number == len(parts) - 1
            with self._unsynchronised(last), _autocast(self._device, settings.precision):
                # Of the whole batch's mean; torch averages the gradients of processes.
                loss = self._model(loaded) * (len(part) / len(rows))
                (loss * processes()).backward()
            summed += loss.detach()
        value = float(total(summed))
        if not math.isfinite(value):
            raise RelookError(self._no_number(rows, value))
        if settings.clip is not None:
            nn.utils.clip_grad_norm_(run.task.parameters(), settings.clip)
        run.optimizer.step()
        run.rates.step()
        run.average.update()
        run.task.after_step()
        return value

    def _unsynchronised(self, last: bool) -> AbstractContextManager[Any]:
        if isinstance(self._model, DistributedDataParallel) and not last:
            return self._model.no_sync()
        return nullcontext()

    def _no_number(self, rows: Rows, value: float) -> str:
        names = list(dict.fromkeys(self._run.task.names(rows)))
        shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        place = f"epoch {self._run.epoch}, step {self._run.step + 1}"
        return f"the loss is {value} in {place}, of {shown}; try a smaller learning_rate, or look at these pictures"


def _validated(run: Run, validate: Callable[[], Validation], save: Callable[[str, Validation], None]) -> Validation:
    """Validate with the averaged weights on the first process, save there, and remember the best everywhere."""
    validation = None
    run.task.eval()
    if rank() == 0:
        with run.average.applied():
            validation = validate()
            better = run.best is None or validation.score >= run.best.score
            if better:
                save("best", validation)
            save("last", validation)
    found: Validation = from_first(validation)
    if run.best is None or found.score >= run.best.score:
        run.best, run.best_epoch = found, run.epoch
    return found


def _stopped(run: Run, settings: LoopConfig) -> bool:
    """Whether the last epochs brought nothing better."""
    return settings.patience is not None and len(run.history) - run.best_epoch >= settings.patience > 0


def _tracked(settings: LoopConfig, files: Files, run: Run) -> AbstractContextManager[Tracker]:
    if rank() == 0:
        return tracking(settings.trackers, files.log, settings.model_dump(mode="json"), run.steps_done)
    return nullcontext(_Nobody())


class _Nobody:
    """The other processes log nothing."""

    def log(self, values: Any, step: int) -> None:
        """See `Tracker.log`."""


def _check_division(settings: LoopConfig) -> None:
    if settings.batch_size % processes():
        raise RelookError(f"batch_size = {settings.batch_size} cannot be divided among {processes()} processes")


def _autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, getattr(torch, precision))
