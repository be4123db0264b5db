"""What a training would cost: a few real steps, measured, and nothing written.

Behind `--dry-run` of both trainings. Validation is not part of it.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from pipeline.config import LoopConfig
from pipeline.train.loop.engine import Engine, begin
from pipeline.train.loop.state import Run
from pipeline.train.loop.task import Task

_STEPS = 5


@dataclass(frozen=True)
class DryRun:
    """What a few steps told.

    Attributes:
        device: where they ran.
        parameters, trainable: values of all parameters, and of those that are learnt.
        batch_size: per step, over all processes.
        batches: per epoch.
        seconds_per_step: mean over the steps after the first, which is slower; of the first where an epoch has no more.
        seconds_per_epoch: the same times `batches`, without validation.
        memory: bytes. On CUDA the most that torch had allocated on the device at once, of this process. On a CPU the
            most that the process ever held resident (ru_maxrss): what the steps need, on top of Python, its libraries
            and what was read before them; 0 on Windows, which does not say.
        state: bytes of the file that a killed run goes on from.
    """

    device: str
    parameters: int
    trainable: int
    batch_size: int
    batches: int
    seconds_per_step: float
    seconds_per_epoch: float
    memory: int
    state: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return asdict(self)

    def to_rows(self) -> dict[str, str]:
        """Words for a table."""
        return {
            "device": self.device,
            "parameters": f"{self.parameters:,}",
            "trainable": f"{self.trainable:,}",
            "batch size": f"{self.batch_size:,}",
            "batches per epoch": f"{self.batches:,}",
            "seconds per step": f"{self.seconds_per_step:.4f}",
            "seconds per epoch": f"{self.seconds_per_epoch:.1f}, and validation",
            "memory": _megabytes(self.memory),
            "state file": _megabytes(self.state),
        }


def dry_run(task: Task, settings: LoopConfig, seed: int, device: torch.device) -> DryRun:
    """Take the first steps of a training; they change the task's weights, and nothing is kept.

    Raises:
        RelookError: as from `fit`: a loss is not a number, or batches cannot be divided among the processes.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    run = begin(task, settings, seed, device)
    seconds = _time(Engine(run, settings, seed, device))
    step = sum(seconds[1:]) / (len(seconds) - 1) if len(seconds) > 1 else seconds[0]
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in task.parameters()]
    return DryRun(
        device=str(device),
        parameters=sum(size for size, _ in sizes),
        trainable=sum(size for size, learnt in sizes if learnt),
        batch_size=settings.batch_size,
        batches=run.steps,
        seconds_per_step=step,
        seconds_per_epoch=step * run.steps,
        memory=_most(device),
        state=_size(run),
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _time(engine: Engine) -> list[float]:
    """Seconds of each of the first steps; a step ends with its loss on the CPU, so nothing is left under way."""
    seconds = []
    steps = engine.epoch()
    started = time.perf_counter()
    for _ in steps:
        seconds.append(time.perf_counter() - started)
        if len(seconds) == _STEPS:
            break
        started = time.perf_counter()
    steps.close()  # ends what was read ahead
    return seconds


def _most(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _size(run: Run) -> int:
    counter = _Counter()
    run.write(counter, "", 0.0)
    return counter.bytes


class _Counter:
    """A stream that counts."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, data: bytes) -> int:
        """See `io.RawIOBase.write`."""
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        """See `io.IOBase.flush`."""
