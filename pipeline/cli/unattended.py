"""Unattended runs: signals, a summary as the last line, structured logs, and metrics.

Around reindex, compact and gc. Metrics are in Prometheus' text format, for node_exporter's textfile collector.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pipeline.cli.run import Run
from pipeline.cli.streams import err, write_json
from pipeline.config import Config
from pipeline.errors import RelookError, UsageError
from pipeline.files import write_bytes, write_errors
from pipeline.workflow.stop import Stop, stop_on_signals

if TYPE_CHECKING:  # it would load the stores for every verb
    from pipeline.workflow.indexing.maintenance import MaintenanceResult

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PREFIX = "relook_"


class UnattendedRun:
    """Around one run.

    Args:
        verb: its name.
        stop: what the stage checks.
        log_json: every line on stderr is a JSON object.
        metrics: where the metrics go, or None.
    """

    def __init__(self, verb: str, stop: Stop, log_json: bool, metrics: Path | None) -> None:
        self._verb, self._stop, self._log_json, self._metrics = verb, stop, log_json, metrics
        self._started = time.monotonic()
        self._summary: dict[str, Any] = {}

    def sum_up(self, result: Mapping[str, Any]) -> None:
        """Set the summary, which is written when the run ends."""
        self._summary = dict(result)

    @contextmanager
    def around(self) -> Iterator[None]:
        """Handle signals while the block runs; when it ends, with or without an error, its summary is the last line."""
        if self._log_json:
            _log_as_json()
        try:
            with stop_on_signals(self._stop):
                yield
        except RelookError as error:
            self._end({**self._summary, "outcome": "failed", "error": str(error)}, error.exit_code)
            if self._log_json:
                raise typer.Exit(error.exit_code) from None
            raise
        else:
            self._end(self._summary, 0)

    def _end(self, summary: Mapping[str, Any], code: int) -> None:
        seconds = round(time.monotonic() - self._started, 2)
        summary = {"outcome": "done", **summary, "exit_code": code, "seconds": seconds}
        if self._metrics is not None:
            _write_metrics(self._metrics, self._verb, summary)
        if self._log_json:
            _write_line({"level": "info" if code == 0 else "error", "verb": self._verb, **summary})
        elif code == 0:
            words = [f"{key} {value}" for key, value in summary.items() if _said(key, value)]
            err.print(f"relook {self._verb}: {', '.join(words)}", highlight=False, markup=False, soft_wrap=True)


def run_maintenance(
    run: Run,
    verb: str,
    stage: Callable[[Config, float, Stop], MaintenanceResult],
    wait: str | None,
    log_json: bool,
    metrics: Path | None,
) -> None:
    """Run one of the verbs that work on an index without its photos: compact, gc, and the rollback of reindex.

    Raises:
        UsageError: `wait` is not a time.
    """
    seconds = seconds_of(wait, "--wait") or 0.0
    stop = Stop()
    unattended = UnattendedRun(verb, stop, log_json, metrics)
    with unattended.around():
        result = stage(run.config, seconds, stop).to_json()
        unattended.sum_up(result)
        if run.as_json:
            run.show(result, None)


def seconds_of(text: str | None, flag: str) -> float | None:
    """A time such as 90s, 10m, 2h or 1d, in seconds. Raises UsageError naming the flag."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if match is None:
        raise UsageError(f"{flag} {text}: expected a time such as 90s, 10m or 2h")
    return float(match[1]) * _UNITS[match[2] or "s"]


class _JsonLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """One JSON object on a line of stderr."""
        _write_line({"level": record.levelname.lower(), "message": record.getMessage()})


def _log_as_json() -> None:
    root = logging.getLogger()
    root.handlers[:] = [_JsonLines()]
    logging.getLogger("relook").setLevel(logging.INFO)


def _write_line(values: Mapping[str, Any]) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    write_json({"time": now, **values}, sys.stderr)


def _said(key: str, value: Any) -> bool:
    """Whether the summary for people shows this: not what is empty, nor what only machines need."""
    return value not in (0, "", {}) and key not in ("exit_code", "weights", "index", "ignored")


def _write_metrics(file: Path, verb: str, summary: Mapping[str, Any]) -> None:
    """Gauges of the last run, in one step: a scraper never sees half a file."""
    values: dict[str, float] = {
        "last_run_timestamp_seconds": round(time.time(), 3),
        "last_run_success": float(summary["exit_code"] == 0 and summary["outcome"] == "done"),
        "last_run_exit_code": float(summary["exit_code"]),
    }
    for key, value in summary.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and key != "exit_code":
            values[f"last_run_{key}"] = float(value)
    lines = []
    for key, number in values.items():
        name = _PREFIX + key
        lines += [f"# HELP {name} {key.replace('_', ' ')} of the last run", f"# TYPE {name} gauge"]
        lines.append(f'{name}{{verb="{verb}"}} {number!r}')
    with write_errors(file):
        write_bytes(file, ("\n".join(lines) + "\n").encode())
