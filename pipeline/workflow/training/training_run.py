"""Around the loop of both trainings: files beside the checkpoint, their lock, the progress bar.

Called by `train-global` and `train-rerank`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

import numpy as np
import torch

from pipeline.config import LoopConfig
from pipeline.files import TEMPORARY, exclusive_lock, write_errors
from pipeline.train import FitResult, Progress, RunFiles, TrainingTask, Validation, fit
from pipeline.train.loop.distributed import rank
from pipeline.workflow.progress import Bar, Reporter, Silent, logger


def run_training(
    task: TrainingTask,
    settings: LoopConfig,
    validate: Callable[[], Validation],
    save: Callable[[str, Validation], None],
    *,
    out: Path,
    identity: str,
    seed: int,
    device: torch.device,
    reporter: Reporter,
) -> FitResult:
    """`pipeline.train.fit` with its files beside the checkpoint `out`, and a progress bar; see there.

    Raises:
        LockedError: another training writes to `out`.
        RelookError: as from `fit`.
    """
    steps = len(task.plan(np.random.default_rng(seed)))
    first = reporter if rank() == 0 else Silent()
    with lock_beside(out), first.bar("train", settings.epochs * steps, "steps") as bar:
        return fit(
            task,
            settings,
            validate,
            save,
            files=RunFiles(out.with_name(f"{out.name}.state"), out.with_name(f"{out.stem}-log")),
            identity=identity,
            seed=seed,
            device=device,
            report=_BarReport(bar),
        )


def last_beside(out: Path) -> Path:
    """The path of a training's last checkpoint, whose best one is `out`."""
    return out.with_name(f"{out.stem}.last{out.suffix}")


class _BarReport:
    """Advances a bar, for a resumed run from the steps that are done, and logs every validation."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._done = bar, 0

    def __call__(self, progress: Progress) -> None:
        if progress.validation is None:
            done = (progress.epoch - 1) * progress.steps + progress.step
            self._bar.advance(done - self._done, f"epoch {progress.epoch} loss {progress.loss:.3f}")
            self._done = done
        else:
            metrics = " ".join(f"{name} {value:.2f}" for name, value in progress.validation.metrics.items())
            logger.info("epoch %d: loss %.4f %s", progress.epoch, progress.loss, metrics)


@contextmanager
def lock_beside(out: Path) -> Iterator[None]:
    """Hold the lock on `out`, and remove partial files of a killed training."""
    if rank() != 0:
        yield
        return
    with exclusive_lock(out.with_name(f".{out.name}.lock"), f"{out}: another training writes to it"):
        for path in (out, last_beside(out)):
            for left in out.parent.glob(f"{escape(path.name)}.*{TEMPORARY}"):
                with write_errors(left):
                    left.unlink()
        yield
