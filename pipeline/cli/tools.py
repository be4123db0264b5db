"""The verbs around the others: convert, demo, version.

Each parses, calls its stage and shows the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline import __version__
from pipeline.cli.options import Json, Quiet, Verbose
from pipeline.cli.output import out
from pipeline.cli.run import Run, app
from pipeline.report import show_rows


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="Weights: an official file, or relook's own.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help=".safetensors: relook's format; .pt: the official.")],
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Convert official weights to relook's format, and back."""
    from pipeline.stages import convert as stage

    run = Run(None, None, {}, as_json, verbose, quiet)
    run.show(stage.convert(source, target).to_json(), lambda document: show_rows(out, "convert", document))


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="The folder for index, checkpoint and page.")] = Path(
        "relook-demo"
    ),
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Run the whole flow on sample photos: extract, upload, train-rerank, search, evaluate."""
    from pipeline.stages.demo import run_demo

    run = Run(None, None, {}, False, verbose, quiet)
    run_demo(folder, out, run.reporter)


@app.command()
def version() -> None:
    """Show the version."""
    out.print(__version__)
