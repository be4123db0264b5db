"""The verbs that bring in what others made: fetch.

Each parses, calls its stage and shows the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, Json, Quiet, Settings, Verbose
from pipeline.cli.run import Run, app, out
from pipeline.report import show_rows


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A published data set; docs/datasets.md lists them.")],
    folder: Annotated[Path | None, typer.Option("--out", help="Where it goes; without it datasets/NAME.")] = None,
    local: Annotated[
        Path | None, typer.Option("--from", help="A folder or archive that is here already; nothing is downloaded.")
    ] = None,
    first: Annotated[int | None, typer.Option("--first", min=0, help="Only so many of its archives.")] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Bring a published data set, resumed and with checksums; or unpack what is here already."""
    from pipeline.stages import fetch as stage

    run = Run(config, settings, {}, as_json, verbose, quiet)
    result = stage.fetch(run.config, name, folder or Path("datasets") / name, local, first, run.reporter)
    if result.unproved:
        run.note(f"of {result.unproved} files no checksum is published; their lengths and archives were checked")
    run.show(result.to_json(), lambda document: show_rows(out, "fetch", document))
