"""The state of a training run: everything that the next step depends on, in one file.

Written atomically by the loop, every `save_every` steps and after every epoch; read when the same run is started again.
Random numbers are not in it: they follow from seed, epoch and step.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from pipeline.checkpoints import Writable, pickle_tensors
from pipeline.errors import RelookError
from pipeline.files import atomic_path, write_errors
from pipeline.train.loop.optimization import Average
from pipeline.train.loop.task import TrainingTask, Validation


@dataclass
class Run:
    """A training run in progress.

    Attributes:
        steps: per epoch.
        epoch, step: the next ones; the step counts from 0 within the epoch.
        losses: of every step so far.
        history: metrics by name for each finished epoch.
        best, best_epoch: the best validation so far.
        seconds: spent before the run was resumed.
    """

    task: TrainingTask
    optimizer: torch.optim.Optimizer
    rates: torch.optim.lr_scheduler.LRScheduler
    average: Average
    steps: int
    epoch: int = 1
    step: int = 0
    losses: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    best: Validation | None = None
    best_epoch: int = 0
    seconds: float = 0.0

    @property
    def steps_done(self) -> int:
        """Steps since the run started."""
        return len(self.losses)

    def save(self, path: Path, identity: str, seconds: float) -> None:
        """Write the state; only runs of the same `identity` resume from it. Raises RelookError on a write error."""
        with write_errors(path), atomic_path(path) as temporary, temporary.open("wb") as stream:
            self.write(stream, identity, seconds)

    def write(self, stream: Writable, identity: str, seconds: float) -> None:
        """Write the state to a stream. Raises OSError on a write error."""
        state = {
            "identity": identity,
            "task": self.task.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rates": self.rates.state_dict(),
            "average": self.average.values,
            "averaged_steps": self.average.steps,
            "epoch": self.epoch,
            "step": self.step,
            "losses": self.losses,
            "history": self.history,
            "best": asdict(self.best) if self.best else None,
            "best_epoch": self.best_epoch,
            "seconds": seconds,
        }
        pickle_tensors(state, stream)

    def resume(self, path: Path, identity: str) -> None:
        """Resume from a file, if it exists. Raises RelookError when it is damaged or of another run."""
        if not path.exists():
            return
        try:
            # Loading into modules and optimizers moves the tensors to their devices.
            state = torch.load(path, map_location="cpu", weights_only=True)
            if state["identity"] == identity:
                self._load(state)
        except Exception as error:  # torch raises many types for a damaged file
            raise RelookError(f"{path}: cannot be resumed from ({error}); remove it to start again") from None
        if state["identity"] != identity:
            raise RelookError(f"{path}: written by a run with other settings or data; remove it to start again")

    def _load(self, state: dict[str, Any]) -> None:
        self.task.load_state_dict(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rates.load_state_dict(state["rates"])
        for name, value in self.average.values.items():
            value.copy_(state["average"][name])
        self.average.steps = state["averaged_steps"]
        self.epoch, self.step, self.losses = state["epoch"], state["step"], state["losses"]
        self.history, self.best_epoch, self.seconds = state["history"], state["best_epoch"], state["seconds"]
        self.best = Validation(**state["best"]) if state["best"] else None
