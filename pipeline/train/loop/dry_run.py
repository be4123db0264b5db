"""What a training would cost: a few real steps are measured, and nothing is written.

Behind `--dry-run` of both trainings. Validation is not measured.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from pipeline.config import LoopConfig
from pipeline.train.loop.engine import Engine, start_run
from pipeline.train.loop.state import Run
from pipeline.train.loop.task import TrainingTask

_STEPS = 5


@dataclass(frozen=True)
class DryRun:
    """What a few steps measured.

    Attributes:
        device: where they ran.
        parameters, trainable: how many values all parameters have, and the trained ones.
        batch_size: per step, over all processes.
        batches: per epoch.
        seconds_per_step: mean over the steps after the first, which is slower; of the first if an epoch has only one.
        seconds_per_epoch: the same times `batches`, without validation.
        memory: bytes. On CUDA the most that torch had allocated on the device at once, of this process. On a CPU the
            peak resident memory of the process (ru_maxrss): what the steps need, on top of Python, its libraries and
            what was read before; 0 on Windows, which does not report it.
        state: bytes of the state file that a killed run resumes from.
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
        """Text for a table."""
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


def dry_run(task: TrainingTask, settings: LoopConfig, seed: int, device: torch.device) -> DryRun:
    """Take the first steps of a training; they change the task's weights, and nothing is kept.

    Raises:
        RelookError: as from `fit`: a loss is not a number, or batches cannot be divided among the processes.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    run = start_run(task, settings, seed, device)
    seconds = _time(Engine(run, settings, seed, device))
    step = sum(seconds[1:]) / (len(seconds) - 1) if len(seconds) > 1 else seconds[0]
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in task.parameters()]
    return DryRun(
        device=str(device),
        parameters=sum(size for size, _ in sizes),
        trainable=sum(size for size, trained in sizes if trained),
        batch_size=settings.batch_size,
        batches=run.steps,
        seconds_per_step=step,
        seconds_per_epoch=step * run.steps,
        memory=_peak_memory(device),
        state=_state_size(run),
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _time(engine: Engine) -> list[float]:
    """Seconds of each of the first steps; a step ends with its loss on the CPU, so no kernel is left running."""
    seconds = []
    steps = engine.epoch()
    started = time.perf_counter()
    for _ in steps:
        seconds.append(time.perf_counter() - started)
        if len(seconds) == _STEPS:
            break
        started = time.perf_counter()
    steps.close()  # stops the prefetching
    return seconds


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _state_size(run: Run) -> int:
    counter = _Counter()
    run.write(counter, "", 0.0)
    return counter.bytes


class _Counter:
    """A stream that counts the bytes written to it."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, data: bytes) -> int:
        """See `io.RawIOBase.write`."""
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        """See `io.IOBase.flush`."""
