"""`relook compact`: small parts are merged, deleted rows dropped."""

from __future__ import annotations

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
def compact(
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
    """Fold an index's small parts and drop its deleted rows."""
    from pipeline.stages import compact as stage

    run = Run(config, settings, {"index": index}, as_json, verbose, quiet or log_json)
    run_maintenance(run, "compact", stage.compact, wait, log_json, metrics)
