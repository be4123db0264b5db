"""A small task that uses all that a task may use, and runs of it: here, in a process that is killed, under torchrun."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from photos import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn import functional

from pipeline.config import LoopConfig
from pipeline.train import FitResult, Progress, RunFiles, TrainingTask, Validation, fit
from pipeline.train.loop.distributed import all_reduce_sum, gather_rows, process_group, rank
from pipeline.train.loop.task import Rows

COUNT, WIDTH, LABELS = 47, 12, 5
# 47 pictures in batches of 10: the last one has 7, which no two processes can share evenly.
LOOP = LoopConfig(epochs=3, batch_size=10, learning_rate=0.02, weight_decay=0.01, warmup=0.2, average=0.8, save_every=2)

# Everything that a run may depend on: dropout, a queue, a momentum copy, parts that a step may not use.
RICH = {"noise": 0.2, "together": True, "seldom": True}
# Long enough for a busy machine; a process that hangs would wait for hours.
SECONDS = 120

_PROCESSES = get_context("forkserver")
_PROCESSES.set_forkserver_preload(["pipeline.train", "tensorboard.backend.event_processing.event_accumulator"])


class Toy(TrainingTask):
    """Learns to tell labels, and to tell pictures from those of the batch and of a queue.

    Args:
        noise: of dropout.
        together: whether the loss looks at the rows of all processes, and keeps a queue and a momentum copy.
        seldom: whether a part of the network is used by every seventh picture only.
        broken: the row whose loss is infinite, if any.
    """

    def __init__(self, noise: float = 0.0, together: bool = False, seldom: bool = False, broken: int = -1) -> None:
        super().__init__()
        rng = np.random.default_rng(1)
        self._labels = torch.from_numpy(rng.integers(0, LABELS, COUNT))
        values = rng.standard_normal((LABELS, WIDTH))[self._labels] + 0.8 * rng.standard_normal((COUNT, WIDTH))
        self._values = torch.from_numpy(values.astype(np.float32))
        torch.manual_seed(5)
        self.hidden, self.head = nn.Linear(WIDTH, 16), nn.Linear(16, LABELS)
        self.rare = nn.Linear(WIDTH, 16)
        self.noise = nn.Dropout(noise)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("queue", torch.randn(20, 16))
        self.register_buffer("momentum", self.hidden.weight.detach().clone())
        self._together, self._seldom, self._broken = together, seldom, broken

    def plan(self, rng: np.random.Generator) -> list[Rows]:
        order = rng.permutation(COUNT)[:, None]
        return np.split(order, range(LOOP.batch_size, COUNT, LOOP.batch_size))

    def load(self, rows: Rows) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        chosen = torch.from_numpy(rows[:, 0])
        return chosen, self._values[chosen], self._labels[chosen]

    def forward(self, loaded: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
        rows, values, labels = loaded
        features = self.noise(torch.tanh(self.hidden(values)))
        seventh = rows % 7 == 0
        if self._seldom and seventh.any():
            features = features + torch.tanh(self.rare(values)) * seventh[:, None]
        loss = functional.cross_entropy(self.head(features), labels)
        if self._together:
            loss = loss + self._among_others(features, values)
        return loss * torch.where((rows == self._broken).any(), torch.inf, 1.0)

    def _among_others(self, features: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        keys = torch.tanh(values @ self.momentum.T)
        own = (features * keys).sum(dim=1, keepdim=True)
        loss = functional.cross_entropy(torch.cat([own, features @ self.queue.T], dim=1), torch.zeros(len(own)).long())
        everyone = gather_rows(keys)
        self.seen += all_reduce_sum(torch.tensor(float(len(values))))
        self.queue = torch.cat([everyone, self.queue])[: len(self.queue)]
        spread = features @ everyone.T
        return loss + 0.1 * functional.softplus(spread).mean()

    def after_step(self) -> None:
        self.momentum.lerp_(self.hidden.weight.detach(), 0.1)

    def names(self, rows: Rows) -> list[str]:
        return [f"photo {row}" for row in rows[:, 0].tolist()]

    def validation(self) -> Validation:
        """The mean loss of everything as it stands, turned round; a number that depends on every weight."""
        with torch.inference_mode():
            logits = self.head(torch.tanh(self.hidden(self._values)) + 0.1 * torch.tanh(self.rare(self._values)))
            loss = functional.cross_entropy(logits, self._labels)
            right = (logits.argmax(dim=1) == self._labels).float().mean()
        return Validation(-float(loss), {"R@1": 100 * float(right)}, {"weight": float(loss)})


def run(
    folder: Path,
    task: Toy,
    settings: LoopConfig = LOOP,
    *,
    report: Callable[[Progress], None] = lambda progress: None,
    validate: Callable[[], Validation] | None = None,
    save: Callable[[str, Validation], None] | None = None,
    identity: str = "x",
    seed: int = 3,
) -> FitResult:
    """Train in `folder`, which then holds best.pt and last.pt, the state while it runs, and the log."""

    def write(which: str, validation: Validation) -> None:
        torch.save({"weights": task.state_dict(), **asdict(validation)}, folder / f"{which}.pt")

    folder.mkdir(parents=True, exist_ok=True)
    return fit(
        task,
        settings,
        validate or task.validation,
        save or write,
        files=RunFiles(folder / "state", folder / "log"),
        identity=identity,
        seed=seed,
        device=torch.device("cpu"),
        report=report,
    )


def start(target: Callable[..., None], *arguments: Any) -> tuple[BaseProcess, Any]:
    """Run `target(connection, *arguments)` in another process; returns it and our end of the connection."""
    ours, theirs = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A script in two processes."""
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=5 * SECONDS,
        check=False,
    )


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run."""
    events = EventAccumulator(str(folder / "log"))
    events.Reload()
    return {name: [(item.step, item.value) for item in events.Scalars(name)] for name in events.Tags()["scalars"]}


def told(folder: Path, task: Toy, trained: FitResult) -> dict[str, Any]:
    """Everything that a run leaves, in values that can be compared; times left out."""
    files = {
        which: {name: _plain(value) for name, value in torch.load(folder / f"{which}.pt").items()}
        for which in ("best", "last")
    }
    return {
        "losses": trained.losses,
        "history": trained.history,
        "best": [trained.best_epoch, asdict(trained.best)],
        "weights": _plain(task.state_dict()),
        **files,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict) and all(isinstance(item, torch.Tensor) for item in value.values()) and value:
        return {name: hashlib.sha256(item.numpy().tobytes()).hexdigest() for name, item in value.items()}
    return value


def main(arguments: Sequence[str]) -> None:
    """Under torchrun: OUT, and cases {name: [task's options, changes to the settings]} in JSON; one file a process."""
    out = Path(arguments[0])
    found = {}
    with process_group(torch.device("cpu")):
        for name, (options, changes) in json.loads(arguments[1]).items():
            task = Toy(**options)
            trained = run(out / name, task, LOOP.model_copy(update=changes))
            found[name] = {
                "losses": trained.losses,
                "history": trained.history,
                "best": trained.best_epoch,
                "weights": {key: value.tolist() for key, value in task.state_dict().items()},
            }
    (out / f"{rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
