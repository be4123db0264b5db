"""`relook fetch`: a published data set is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, Json, Quiet, Settings, Verbose, expanded_path
from pipeline.cli.run import Run, app
from pipeline.cli.streams import out
from pipeline.report import show_rows


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A published data set; docs/datasets.md lists them.")],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="The target folder.", show_default="datasets/NAME", parser=expanded_path
        ),
    ] = None,
    local: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="A local folder or archive; nothing is downloaded.",
            parser=expanded_path,
        ),
    ] = None,
    first: Annotated[int | None, typer.Option("--first", min=0, metavar="N", help="Only the first N archives.")] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Download a published data set, with resume and checksums; or unpack local files."""
    from pipeline.stages import fetch as stage

    run = Run(config, settings, {}, as_json, verbose, quiet)
    result = stage.fetch(run.config, name, folder or Path("datasets") / name, local, first, run.reporter)
    if result.unproved:
        run.note(f"{result.unproved} files have no published checksum; their lengths and archives were checked")
    run.show(result.to_json(), lambda document: show_rows(out, "fetch", document))
