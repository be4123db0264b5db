"""Logging of a training: TensorBoard always, Weights & Biases where that extra is installed.

Used by the loop on the first process. A run that is resumed replaces what was logged after its state.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from torch.utils.tensorboard import SummaryWriter

from pipeline.errors import RelookError
from pipeline.files import write_bytes, write_errors

# The file that keeps the id of a folder's run at Weights & Biases.
_RUN_ID = "wandb-run-id"


class Tracker(Protocol):
    """Logs numbers by name."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """`values` after `step` steps."""

    def flush(self) -> None:
        """Write what was logged to disk. Raises RelookError when it cannot be written."""


@contextmanager
def tracking(names: Sequence[str], folder: Path, settings: Mapping[str, Any], steps_done: int) -> Iterator[Tracker]:
    """TensorBoard in `folder`, and the trackers of these names.

    Args:
        names: of trackers beside TensorBoard.
        folder: where their files go.
        settings: of the run, logged beside it.
        steps_done: steps of a resumed run that are logged already; what was logged after them is replaced.

    Raises:
        RelookError: a tracker is not installed, or the folder cannot be written to.
    """
    board = _TensorBoard(folder, steps_done)
    try:
        others = [_WeightsAndBiases(folder, settings, steps_done)] if "wandb" in names else []
        try:
            yield _All([board, *others])
        finally:
            for tracker in others:
                tracker.close()
    finally:
        board.close()


class _All:
    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers

    def log(self, values: Mapping[str, float], step: int) -> None:
        for tracker in self._trackers:
            tracker.log(values, step)

    def flush(self) -> None:
        for tracker in self._trackers:
            tracker.flush()


class _TensorBoard:
    def __init__(self, folder: Path, steps_done: int) -> None:
        self._folder = folder
        with write_errors(folder):
            self._writer = SummaryWriter(str(folder), purge_step=steps_done + 1)
            self._writer.flush()

    def log(self, values: Mapping[str, float], step: int) -> None:
        with write_errors(self._folder):
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        with write_errors(self._folder):
            self._writer.flush()

    def close(self) -> None:
        with write_errors(self._folder):
            self._writer.close()


class _WeightsAndBiases:
    """Its own variables apply, such as WANDB_MODE=offline and WANDB_PROJECT."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], steps_done: int) -> None:
        try:
            import wandb
        except ImportError:
            raise RelookError("trackers: wandb is not installed; pip install 'relook[wandb]'") from None
        try:
            self._run = wandb.init(
                dir=str(folder),
                id=_run_id(folder, steps_done),
                resume="allow",
                config=dict(settings),
                reinit="create_new",
            )
        except wandb.errors.Error as error:
            raise RelookError(f"trackers: wandb: {error}") from None

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def flush(self) -> None:
        """Its own process has the numbers, and outlives this one."""

    def close(self) -> None:
        self._run.finish()


def _run_id(folder: Path, steps_done: int) -> str:
    """A new id for a new run, even where another run's file lies; the same id for a resumed run."""
    path = folder / _RUN_ID
    if steps_done and path.exists():
        return path.read_text(encoding="ascii")
    made = uuid.uuid4().hex[:8]
    with write_errors(path):
        write_bytes(path, made.encode("ascii"))
    return made
