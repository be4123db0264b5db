"""What of a training survives a kill: everything that the next step depends on, in one file.

Written by the loop every so many steps and after every epoch, whole or not at all; read when the same run is started
again. Random numbers are not in it: they follow from seed, epoch and step.
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
from pipeline.train.loop.task import Task, Validation


@dataclass
class Run:
    """A training under way.

    Attributes:
        steps: of an epoch.
        epoch, step: what comes next; the step counts from 0 within the epoch.
        losses: of every step so far.
        history: one row of numbers per finished epoch.
        best, best_epoch: the best validation so far.
        seconds: that passed in earlier processes.
    """

    task: Task
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
        """Since the run began."""
        return len(self.losses)

    def save(self, path: Path, identity: str, seconds: float) -> None:
        """Write it; `identity` says which runs may go on from it. Raises RelookError when it cannot be written."""
        with write_errors(path), atomic_path(path) as temporary, temporary.open("wb") as stream:
            self.write(stream, identity, seconds)

    def write(self, stream: Writable, identity: str, seconds: float) -> None:
        """The bytes of a state. Raises OSError when they cannot be written."""
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
        """Go on from a file, where there is one. Raises RelookError when it is damaged or of another run."""
        if not path.exists():
            return
        try:
            # Whatever takes its tensors moves them to where they belong.
            state = torch.load(path, map_location="cpu", weights_only=True)
            if state["identity"] == identity:
                self._take(state)
        except Exception as error:  # torch raises many types for a damaged file
            raise RelookError(f"{path}: cannot be resumed from ({error}); remove it to start again") from None
        if state["identity"] != identity:
            raise RelookError(f"{path}: left by a run with other settings or data; remove it to start again")

    def _take(self, state: dict[str, Any]) -> None:
        self.task.load_state_dict(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rates.load_state_dict(state["rates"])
        for name, value in self.average.values.items():
            value.copy_(state["average"][name])
        self.average.steps = state["averaged_steps"]
        self.epoch, self.step, self.losses = state["epoch"], state["step"], state["losses"]
        self.history, self.best_epoch, self.seconds = state["history"], state["best_epoch"], state["seconds"]
        self.best = Validation(**state["best"]) if state["best"] else None
