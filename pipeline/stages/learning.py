"""What both trainings do around the one loop: files beside the checkpoint, the bar, the dry run.

Below `train-global` and `train-rerank`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pipeline.config import LoopConfig
from pipeline.stages.progress import Reporter, Silent, logger
from pipeline.train import Files, Progress, Task, Trained, Validation, fit
from pipeline.train.distributed import rank


def learn(
    task: Task,
    settings: LoopConfig,
    validate: Callable[[], Validation],
    save: Callable[[str, Validation], None],
    *,
    out: Path,
    identity: str,
    seed: int,
    device: torch.device,
    reporter: Reporter,
) -> Trained:
    """`pipeline.train.fit` with its files beside the checkpoint `out`, and a bar; see there."""
    steps = len(task.plan(np.random.default_rng(seed)))
    shown = reporter if rank() == 0 else Silent()
    with shown.bar("train", settings.epochs * steps, "steps") as bar:

        def show(progress: Progress) -> None:
            if progress.validation is None:
                bar.advance(1, f"epoch {progress.epoch} loss {progress.loss:.3f}")
            else:
                words = " ".join(f"{name} {value:.2f}" for name, value in progress.validation.metrics.items())
                logger.info("epoch %d: loss %.4f %s", progress.epoch, progress.loss, words)

        return fit(
            task,
            settings,
            validate,
            save,
            files=Files(out.with_name(f"{out.name}.state"), out.with_name(f"{out.stem}-log")),
            identity=identity,
            seed=seed,
            device=device,
            report=show,
        )


def last_beside(out: Path) -> Path:
    """Where the last checkpoint of a training lies whose best one is `out`."""
    return out.with_name(f"{out.stem}.last{out.suffix}")
