"""`relook gc`: earlier generations and leftovers are removed."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.options import (
    ConfigFile,
    IndexDir,
    Json,
    LogJson,
    Metrics,
    Quiet,
    Settings,
    Verbose,
    Wait,
)
from pipeline.cli.run import Run, app
from pipeline.cli.unattended import run_maintenance


@app.command()
def gc(
    keep: Annotated[int | None, typer.Option("--keep", min=1, help="Generations to keep, this one among them.")] = None,
    wait: Wait = None,
    log_json: LogJson = False,
    metrics: Metrics = None,
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Remove an index's earlier generations beyond reindex.keep, and what is left of killed runs."""
    from pipeline.stages import gc as stage

    run = Run(config, settings, {"index": index, "reindex.keep": keep}, as_json, verbose, quiet or log_json)
    run_maintenance(run, "gc", stage.gc, wait, log_json, metrics)
