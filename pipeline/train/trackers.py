"""Who writes down the course of a training: TensorBoard always, others where an extra is installed.

Used by the loop on the first process. A run that goes on after a kill replaces what was logged after its state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from torch.utils.tensorboard import SummaryWriter

from pipeline.errors import RelookError


class Tracker(Protocol):
    """Takes numbers by name."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """`values` after `step` steps."""


@contextmanager
def tracking(names: Sequence[str], folder: Path, settings: Mapping[str, Any], steps_done: int) -> Iterator[Tracker]:
    """TensorBoard in `folder`, and the trackers of these names.

    Args:
        names: of trackers beside TensorBoard.
        folder: where their files go.
        settings: of the run, to be shown beside it.
        steps_done: a run that is resumed has logged so many already.

    Raises:
        RelookError: a tracker is not installed.
    """
    with SummaryWriter(str(folder), purge_step=steps_done + 1) as writer:
        trackers: list[Tracker] = [_TensorBoard(writer)]
        if "wandb" in names:
            trackers.append(_WeightsAndBiases(folder, settings))
        try:
            yield _All(trackers)
        finally:
            for tracker in trackers[1:]:
                tracker.close()  # type: ignore[attr-defined]


class _All:
    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers

    def log(self, values: Mapping[str, float], step: int) -> None:
        for tracker in self._trackers:
            tracker.log(values, step)


class _TensorBoard:
    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)


class _WeightsAndBiases:
    """Its own variables apply, such as WANDB_MODE=offline and WANDB_PROJECT."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError:
            raise RelookError("trackers: wandb is not installed; pip install 'relook[wandb]'") from None
        self._run = wandb.init(
            dir=str(folder),
            id=folder.name.replace("/", "-"),
            resume="allow",
            config=dict(settings),
            reinit="create_new",
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()
