"""Progress bars in the terminal: one per stage, with rate and time left.

Used by the CLI. Bars go to stderr, so that stdout holds the result alone; where that is no terminal there are none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class Bars:
    """Draws a `Reporter`'s work as progress bars with rate and time left.

    Args:
        console: where to draw; bars are left out where it is no terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def bar(self, what: str, total: int, unit: str) -> Iterator[_Bar]:
        """A piece of work of `total` units begins; it ends with the block."""
        columns = (
            TextColumn("{task.description:<15}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(unit),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self._console, disable=not self._console.is_terminal) as progress:
            yield _Bar(progress, progress.add_task(what, total=total, note=""))


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, count: int = 1, note: str = "") -> None:
        """So many more units are done."""
        self._progress.advance(self._task, count)
        if note:
            self._progress.update(self._task, note=note)


class _Rate(ProgressColumn):
    """Units per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {self._unit}/s" if speed else "", style="progress.data.speed")
