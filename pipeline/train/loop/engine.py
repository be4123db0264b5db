"""The steps of a training: gradient accumulation, mixed precision, several processes, clipping, averaged weights.

Driven by the loop and by the dry run. Several processes are torch's DistributedDataParallel.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from pipeline.config import LoopConfig
from pipeline.describe.prefetch import prefetch
from pipeline.errors import RelookError
from pipeline.train.loop.distributed import all_reduce_sum, broadcast_buffers, processes, rank
from pipeline.train.loop.optimization import Average, make_optimizer, make_schedule
from pipeline.train.loop.state import Run
from pipeline.train.loop.task import Rows, TrainingTask, Validation

# Batches that are prefetched, and threads that do it.
_PREFETCHED = 4
_READERS = 4
# Ids that an error names at most.
_NAMED = 8


@dataclass(frozen=True)
class Progress:
    """Progress after a step: `loss` is the mean over the epoch so far, `rate` the learning rate of the step."""

    epoch: int
    step: int
    steps: int
    loss: float
    rate: float
    validation: Validation | None = None


def start_run(task: TrainingTask, settings: LoopConfig, seed: int, device: torch.device) -> Run:
    """A new run, with the task on `device`.

    Raises:
        RelookError: batches cannot be divided among the processes, or the task has batch normalisation that is not
            frozen on several processes without CUDA.
    """
    plan = task.plan(np.random.default_rng((seed, 1)))
    _check_division(settings, min(map(len, plan)))
    task.to(device)
    if processes() > 1:
        _synchronise_batch_norms(task, device)
    optimizer = make_optimizer(task, settings)
    rates = make_schedule(optimizer, settings, settings.epochs * len(plan))
    return Run(task, optimizer, rates, Average(task, settings.average), len(plan))


class Engine:
    """Runs the steps of a run.

    Buffers are not broadcast in a step: what a task keeps in them follows from the whole batch (`gather_rows`,
    `all_reduce_sum`) and is the same on all processes. Parameters may have no gradient in a step, on some processes or
    on all; `find_unused_parameters` lets DistributedDataParallel handle them, where it would otherwise stop or go wrong
    without an error.
    """

    def __init__(self, run: Run, settings: LoopConfig, seed: int, device: torch.device) -> None:
        self._run, self._settings, self._seed, self._device = run, settings, seed, device
        self._trained = [parameter for parameter in run.task.parameters() if parameter.requires_grad]
        self._model: nn.Module = run.task
        if processes() > 1:
            broadcast_buffers(run.task)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # newer releases of torch rename the argument
                self._model = DistributedDataParallel(run.task, broadcast_buffers=False, find_unused_parameters=True)

    def epoch(self) -> Generator[Progress, None, None]:
        """Run the remaining steps of the epoch."""
        run = self._run
        run.task.train()
        run.task.begin_epoch(run.epoch, self._settings.epochs)
        plan = run.task.plan(np.random.default_rng((self._seed, run.epoch)))
        remaining = plan[run.step :]
        parts = [self._parts(rows) for rows in remaining]
        loaded = prefetch(
            lambda own: [run.task.load(part) for part in own], [own for own, _ in parts], _READERS, _PREFETCHED
        )
        summed = sum(run.losses[len(run.losses) - run.step :])
        for rows, (_, shares), inputs in zip(remaining, parts, loaded, strict=True):
            rate = float(run.rates.get_last_lr()[0])
            run.losses.append(self._step(rows, shares, inputs))
            run.step += 1
            summed += run.losses[-1]
            yield Progress(run.epoch, run.step, len(plan), summed / run.step, rate)

    def _parts(self, rows: Rows) -> tuple[list[Rows], list[float]]:
        """This process's share of each accumulated part of a batch, and its weight in the loss.

        All processes have the same number of parts, none of them empty: a task may communicate in each.
        """
        parts = np.array_split(rows, min(self._settings.accumulate, len(rows) // processes()))
        own = [part[rank() :: processes()] for part in parts]
        return own, [len(share) / len(rows) for share in own]

    def _step(self, rows: Rows, shares: list[float], inputs: list[Any]) -> float:
        run = self._run
        mixed = np.random.SeedSequence((self._seed, run.epoch, run.step)).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(mixed >> 1))
        run.optimizer.zero_grad(set_to_none=True)
        summed = torch.zeros((), device=self._device)
        for number, (share, loaded) in enumerate(zip(shares, inputs, strict=True), start=1):
            with self._unsynchronised(number == len(inputs)):
                with _autocast(self._device, self._settings.precision):
                    loss = self._model(loaded) * share
                # `loss` is a share of the whole batch's mean; torch averages the gradients of processes.
                (loss * processes()).backward()
            summed += loss.detach()
        value = float(all_reduce_sum(summed))
        self._check("loss", rows, value)
        norm = nn.utils.clip_grad_norm_(self._trained, self._settings.clip or math.inf)
        self._check("gradient", rows, float(norm))
        run.optimizer.step()
        run.rates.step()
        run.average.update()
        run.task.after_step()
        return value

    def _unsynchronised(self, last: bool) -> AbstractContextManager[Any]:
        if isinstance(self._model, DistributedDataParallel) and not last:
            return self._model.no_sync()
        return nullcontext()

    def _check(self, what: str, rows: Rows, value: float) -> None:
        if math.isfinite(value):
            return
        names = list(dict.fromkeys(self._run.task.names(rows)))
        shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        place = f"epoch {self._run.epoch}, step {self._run.step + 1}"
        advice = "try a smaller learning_rate, or inspect these images"
        raise RelookError(f"the {what} is {value} in {place}, of {shown}; {advice}")


def _check_division(settings: LoopConfig, least: int) -> None:
    count = processes()
    if settings.batch_size % count:
        raise RelookError(f"batch_size = {settings.batch_size} cannot be divided among {count} processes")
    if least < count:
        raise RelookError(
            f"the last batch of an epoch has {least} rows for {count} processes; choose another batch_size than "
            f"{settings.batch_size}"
        )


def _synchronise_batch_norms(task: TrainingTask, device: torch.device) -> None:
    """Make batch normalisation that is not frozen use the statistics of the whole batch, where torch can do that."""
    task.train()
    found = [
        (parent, name, child)
        for parent in task.modules()
        for name, child in parent.named_children()
        if isinstance(child, _BatchNorm) and child.training
    ]
    if found and device.type != "cuda":
        raise RelookError(
            f"{len(found)} layers of batch normalisation would each see only a part of the batch: freeze them, train "
            "on CUDA, or in one process"
        )
    for parent, name, child in found:
        setattr(parent, name, convert_sync_batchnorm(child))  # type: ignore[no-untyped-call]


def _autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, getattr(torch, precision))
