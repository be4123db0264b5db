"""What every verb does around its stage: read the configuration, show bars, print the result.

Below the verbs of this room, which register themselves with `app`.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.logging import RichHandler

from pipeline import __version__
from pipeline.cli.streams import err, out, write_json
from pipeline.config import Config, load_config
from pipeline.files import refuse_bucket, visible
from pipeline.report import Bars, show_rows, show_training, write_training
from pipeline.workflow.progress import Reporter, Silent

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        out.print(__version__, highlight=False)
        raise typer.Exit


@app.callback()
def relook(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Find the photos of a collection that show the same thing as a query photo, and re-rank the first candidates."""


class Run:
    """What every verb does around its stage.

    Args:
        config, settings, flags: the configuration: a file, `--set`, and the verb's own flags by key.
        as_json, verbose, quiet: what is shown.
        bucket: whether the verb works with an index in a bucket.

    Raises:
        RelookError: the index is in a bucket, and the verb needs a directory.
    """

    def __init__(
        self,
        config: Path | None,
        settings: list[str] | None,
        flags: Mapping[str, Any],
        as_json: bool,
        verbose: int,
        quiet: bool,
        *,
        bucket: bool = False,
    ) -> None:
        overrides = [f"{key}={json.dumps(_plain(value))}" for key, value in flags.items() if value is not None]
        self.config: Config = load_config(config, [*(settings or ()), *overrides])
        if not bucket:
            refuse_bucket(self.config.index)
        quiet = quiet or not is_first()
        self.reporter: Reporter = Silent() if quiet else Bars(err)
        self.as_json, self._quiet = as_json, quiet
        level = logging.ERROR if quiet else logging.DEBUG if verbose > 1 else logging.INFO
        logging.basicConfig(level=logging.WARNING, handlers=[_log_handler()])
        logging.getLogger("relook").setLevel(level)

    def show(self, document: dict[str, Any], table: Any) -> None:
        """The result, as JSON or as a table."""
        if not is_first():
            return
        if self.as_json:
            write_json(document)
        else:
            table(document)

    def show_cost(self, cost: Any) -> None:
        """What a dry run measured."""
        self.show(cost.to_json(), lambda document: show_rows(out, "dry run", cost.to_rows()))

    def show_training(self, result: Any, html: Path | None) -> None:
        """The `TrainingResult` of a verb; its curves as a page, where one is wanted."""
        document = result.to_json()
        if html is not None:
            write_training(html, document, result.losses)
            self.note(f"curves: {html}")
        self.show(document, lambda document: show_training(out, document))

    def note(self, text: str) -> None:
        """A word beside the result."""
        if not self._quiet:
            err.print(text, highlight=False, markup=False, soft_wrap=True)


def is_first() -> bool:
    """Whether this is the first process of torchrun, or there is one only."""
    return os.environ.get("RANK", "0") == "0"


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """A message is one line, whatever names of files are in it; a traceback has its lines."""
        return visible(super().format(record), "\n" if record.exc_info or record.stack_info else "")


def _log_handler() -> logging.Handler:
    """Coloured and folded on a terminal; one plain line per message elsewhere."""
    if err.is_terminal:
        shown: logging.Handler = RichHandler(console=err, show_path=False)
        shown.setFormatter(_OneLine("%(message)s"))
        return shown
    lines = logging.StreamHandler()
    lines.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    return lines


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
