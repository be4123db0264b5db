"""`relook info`: what an index holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.options import ConfigFile, HtmlPage, IndexDir, Json, Quiet, Settings, Verbose
from pipeline.cli.run import Run, app
from pipeline.cli.streams import out
from pipeline.errors import UsageError
from pipeline.report import show_failures, show_info, write_index_page

# Images on the page that are like no other.
_OUTLIERS = 24


@app.command()
def info(
    directory: Annotated[Path | None, typer.Argument(metavar="[INDEX]", help="The index directory.")] = None,
    html: HtmlPage = None,
    failures: Annotated[
        bool, typer.Option("--failures", help="List the photos that the last run could not read, and why.")
    ] = False,
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """What an index holds, what made it, and how fresh it is."""
    from pipeline.stages import info as stage

    if directory is not None and index is not None:
        raise UsageError(f"info {directory} --index {index}: give the index once")
    if failures and html is not None:
        raise UsageError("info --failures --html: the page lists failures by itself; leave --failures")
    run = Run(config, settings, {"index": directory or index}, as_json, verbose, quiet, bucket=True)
    if failures:
        listed = {"index": str(run.config.index), "failures": stage.failures(run.config)}
        run.show(listed, lambda shown: show_failures(out, shown))
        return
    document = stage.info(run.config).to_json()
    if html is not None:
        _write(run, html, document)
        run.note(f"pictures: {html}")
    run.show(document, lambda shown: show_info(out, shown))


def _write(run: Run, html: Path, document: dict[str, Any]) -> None:
    from pipeline.stages import duplicates
    from pipeline.stages import info as stage

    groups = duplicates.duplicates(run.config, reporter=run.reporter).to_json() if document["images"] else None
    lonely = [asdict(one) for one in stage.outliers(run.config, _OUTLIERS, run.reporter)]
    write_index_page(html, document, groups, lonely, stage.failures(run.config))
