"""`relook info`: what an index holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, IndexDir, Json, Quiet, Settings, Verbose
from pipeline.cli.output import out
from pipeline.cli.run import Run, app
from pipeline.errors import UsageError
from pipeline.report import show_info


@app.command()
def info(
    directory: Annotated[Path | None, typer.Argument(metavar="[INDEX]", help="The index directory.")] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """What an index holds, what made it, and how fresh it is."""
    from pipeline.stages import info as stage

    if directory is not None and index is not None:
        raise UsageError(f"info {directory} --index {index}: give the index once")
    run = Run(config, settings, {"index": directory or index}, as_json, verbose, quiet)
    run.show(stage.info(run.config).to_json(), lambda document: show_info(out, document))
