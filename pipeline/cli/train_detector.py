"""`relook train-detector`: AMES's detector is trained on the maps of an index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import (
    ConfigFile,
    Device,
    DryRun,
    HtmlPage,
    IndexDir,
    Json,
    Quiet,
    Settings,
    Store,
    Verbose,
)
from pipeline.cli.run import Run, app


@app.command("train-detector")
def train_detector(
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Where the best checkpoint is written.", show_default="describers/NAME-detector.safetensors"
        ),
    ] = None,
    dry_run: DryRun = False,
    html: HtmlPage = None,
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    store: Store = None,
    device: Device = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Train AMES's detector of local descriptors on whole maps of an index with labels."""
    from pipeline.stages import train_detector as stage

    flags = {"index": index, "store.kind": store, "device": device, "train_detector.out": checkpoint}
    run = Run(config, settings, flags, as_json, verbose, quiet)
    if dry_run:
        run.show_cost(stage.dry_run_detector(run.config))
        return
    result = stage.train_detector(run.config, run.reporter)
    run.show_training(result, html)
