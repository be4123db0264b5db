"""`relook convert`: weights between the official format and relook's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import Json, Quiet, Verbose, expanded_path
from pipeline.cli.run import Run, app
from pipeline.cli.streams import out
from pipeline.report import show_rows


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="Weights: an official file, or relook's own.", parser=expanded_path)
    ],
    target: Annotated[
        Path,
        typer.Argument(metavar="OUT", help=".safetensors: relook's format; .pt: the official.", parser=expanded_path),
    ],
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Convert official weights to relook's format, and back."""
    from pipeline.stages import convert as stage

    run = Run(None, None, {}, as_json, verbose, quiet)
    run.show(stage.convert(source, target).to_json(), lambda document: show_rows(out, "convert", document))
