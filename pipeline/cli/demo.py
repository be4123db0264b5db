"""`relook demo`: the whole flow on sample photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import Quiet, Verbose, expanded_path
from pipeline.cli.run import Run, app
from pipeline.cli.streams import out


@app.command()
def demo(
    folder: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="The folder for index, checkpoint and page.", parser=expanded_path),
    ] = Path("relook-demo"),
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Run the whole flow on sample photos: extract, upload, train-rerank, search, evaluate."""
    from pipeline.stages.demo import run_demo

    run = Run(None, None, {}, False, verbose, quiet)
    run_demo(folder, out, run.reporter)
