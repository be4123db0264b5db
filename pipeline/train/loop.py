"""The one training loop: steps, schedule, validation, best checkpoint, resume, log.

Every trainer of relook is a `Task` that this loop runs. Each epoch draws its data and its noise from (seed, epoch)
alone, so that a run which was killed and resumed goes through the same batches as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter

from pipeline.errors import RelookError
from pipeline.files import replacing


class Task(Protocol):
    """What is trained."""

    @property
    def network(self) -> nn.Module:
        """Whose parameters are learnt."""

    def steps(self) -> int:
        """Batches per epoch."""

    def batches(self, rng: np.random.Generator) -> Iterator[Any]:
        """The batches of one epoch, drawn from `rng` alone."""

    def loss(self, batch: Any) -> torch.Tensor:
        """A scalar to minimise."""


@dataclass(frozen=True)
class Validation:
    """What a validation found; `metrics` in percent, `score` decides which epoch is best, `extra` goes to the
    caller."""

    score: float
    metrics: dict[str, float]
    extra: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """Where a run stands, after every step: losses are means over the epoch so far."""

    epoch: int
    step: int
    steps: int
    loss: float
    validation: Validation | None = None


@dataclass(frozen=True)
class Schedule:
    """AdamW with linear warm-up over the `warmup` fraction of all steps, then half a cosine down to zero.

    Matrices decay, vectors and embeddings do not. What is validated and kept is the moving average of the weights: each
    step moves it by a factor of 1 - `average` towards them (faster at the beginning).
    """

    epochs: int
    learning_rate: float
    weight_decay: float
    warmup: float
    seed: int
    average: float = 0.99
    clip: float = 1.0


@dataclass(frozen=True)
class Trained:
    """The result: what the best epoch was, and one row of numbers per epoch."""

    best_epoch: int
    best: Validation
    history: list[dict[str, float]]
    seconds: float


def fit(
    task: Task,
    schedule: Schedule,
    validate: Callable[[], Validation],
    save_best: Callable[[Validation], None],
    *,
    state_file: Path,
    log_dir: Path,
    identity: str,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Trained:
    """Train a task.

    Args:
        task: what is trained.
        schedule: how long and how fast.
        validate: called after every epoch with the network in evaluation mode.
        save_best: called when an epoch is the best so far.
        state_file: written after every epoch; a run that finds one of the same `identity` goes on from there. Removed
        at
            the end.
        log_dir: for TensorBoard.
        identity: equal for runs whose state can be shared: settings and data.
        report: told after every step and every validation.

    Raises:
        RelookError: the loss is not a number; the message names the epoch and step.
    """
    started = time.monotonic()
    optimizer = torch.optim.AdamW(_groups(task.network, schedule.weight_decay), lr=schedule.learning_rate)
    total = schedule.epochs * task.steps()
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, total, schedule.warmup))
    run = _Run(task.network, optimizer, rates, schedule.average)
    run.resume(state_file, identity)
    with SummaryWriter(str(log_dir)) as log:
        for epoch in range(len(run.history) + 1, schedule.epochs + 1):
            loss = _epoch(task, run, schedule, epoch, report)
            task.network.eval()
            with run.averaged():
                validation = validate()
                if run.best is None or validation.score > run.best.score:
                    run.best, run.best_epoch = validation, epoch
                    save_best(validation)
            report(Progress(epoch, task.steps(), task.steps(), loss, validation))
            run.history.append({"epoch": epoch, "loss": loss, **validation.metrics})
            for name, value in run.history[-1].items():
                log.add_scalar(name, value, epoch)
            run.save(state_file, identity, run.seconds + time.monotonic() - started)
    state_file.unlink(missing_ok=True)
    assert run.best is not None  # epochs is at least 1
    return Trained(run.best_epoch, run.best, run.history, round(run.seconds + time.monotonic() - started, 1))


class _Run:
    """What has to survive a kill."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        rates: torch.optim.lr_scheduler.LRScheduler,
        average: float,
    ) -> None:
        self.network, self.optimizer, self.rates = network, optimizer, rates

        def move(mean: torch.Tensor, value: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
            steps = int(count)
            return value.lerp(mean, min(average, (steps + 1) / (steps + 10)))

        self.average = AveragedModel(network, avg_fn=move)
        self.history: list[dict[str, float]] = []
        self.best: Validation | None = None
        self.best_epoch = 0
        self.seconds = 0.0

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the network has the moving average of its weights."""
        own = {key: value.clone() for key, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.average.module.state_dict())
        try:
            yield
        finally:
            self.network.load_state_dict(own)

    def save(self, path: Path, identity: str, seconds: float) -> None:
        best = self.best and {
            "score": self.best.score,
            "metrics": self.best.metrics,
            "extra": self.best.extra,
        }
        state = {
            "identity": identity,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rates": self.rates.state_dict(),
            "history": self.history,
            "best": best,
            "best_epoch": self.best_epoch,
            "seconds": seconds,
        }
        with replacing(path) as temporary:
            torch.save(state, temporary)

    def resume(self, path: Path, identity: str) -> None:
        if not path.exists():
            return
        try:
            state = torch.load(path, weights_only=True)
        except Exception as error:  # torch raises many types for a damaged file
            raise RelookError(f"{path}: cannot be resumed from ({error}); remove it to start anew") from None
        if state["identity"] != identity:
            raise RelookError(f"{path}: left by a run with other settings or data; remove it to start anew")
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rates.load_state_dict(state["rates"])
        self.history, self.best_epoch, self.seconds = state["history"], state["best_epoch"], state["seconds"]
        self.best = Validation(**state["best"])


def _epoch(task: Task, run: _Run, schedule: Schedule, epoch: int, report: Callable[[Progress], None]) -> float:
    torch.manual_seed(schedule.seed * 1_000_003 + epoch)
    task.network.train()
    total = 0.0
    for step, batch in enumerate(task.batches(np.random.default_rng((schedule.seed, epoch))), start=1):
        loss = task.loss(batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RelookError(f"the loss is {value} in epoch {epoch}, step {step}; try a smaller learning_rate")
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(task.network.parameters(), schedule.clip)
        run.optimizer.step()
        run.rates.step()
        run.average.update_parameters(task.network)
        total += value
        report(Progress(epoch, step, task.steps(), total / step))
    return total / max(task.steps(), 1)


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights of linear layers decay; biases, norms and embeddings do not."""
    embeddings = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
    learnt = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decaying = [p for p in learnt if p.ndim > 1 and id(p) not in embeddings]
    others = [p for p in learnt if p.ndim <= 1 or id(p) in embeddings]
    return [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _rate(step: int, total: int, warmup: float) -> float:
    rising = max(1, round(total * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))
