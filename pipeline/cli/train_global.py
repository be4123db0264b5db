"""`relook train-global`: a describer is trained on labelled photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, Device, DryRun, HtmlPage, Json, Quiet, Settings, Verbose, expanded_source
from pipeline.cli.run import Run, app


@app.command("train-global")
def train_global(
    images: Annotated[
        str,
        typer.Option(
            "--images",
            metavar="PHOTOS",
            help="Labelled photos: a manifest, a folder or NAME:FOLDER.",
            parser=expanded_source,
        ),
    ],
    checkpoint: Annotated[
        Path | None,
        typer.Option("--out", help="Where the best checkpoint is written.", show_default="describers/NAME.safetensors"),
    ] = None,
    dry_run: DryRun = False,
    html: HtmlPage = None,
    config: ConfigFile = None,
    settings: Settings = None,
    device: Device = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Train a describer on labelled photos."""
    from pipeline.stages import train_global as stage

    run = Run(config, settings, {"device": device, "train_global.out": checkpoint}, as_json, verbose, quiet)
    if dry_run:
        run.show_cost(stage.dry_run_global(run.config, images, run.reporter))
        return
    result = stage.train_global(run.config, images, run.reporter)
    run.show_training(result, html)
