"""`relook duplicates`: groups of equal and of near-equal photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, HtmlPage, IndexDir, Json, Quiet, Settings, Verbose
from pipeline.cli.run import Run, app
from pipeline.cli.streams import out
from pipeline.config.near_equal import NEAR_EQUAL
from pipeline.report import show_duplicates, write_duplicates


@app.command()
def duplicates(
    threshold: Annotated[
        float, typer.Option("--threshold", min=0.0, max=1.0, help="Least cosine of a near-equal pair.")
    ] = NEAR_EQUAL,
    equal_only: Annotated[bool, typer.Option("--equal-only", help="Compare the bytes of files alone.")] = False,
    html: HtmlPage = None,
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Groups of photos in an index that are equal, or nearly equal."""
    from pipeline.stages import duplicates as stage

    run = Run(config, settings, {"index": index}, as_json, verbose, quiet, bucket=True)
    document = stage.duplicates(run.config, threshold, equal_only=equal_only, reporter=run.reporter).to_json()
    if html is not None:
        write_duplicates(html, document)
        run.note(f"pictures: {html}")
    run.show(document, lambda shown: show_duplicates(out, shown, Path.cwd()))
