"""`relook map`: a page with every image of an index as a point, near to those that it resembles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.options import ConfigFile, HtmlPage, IndexDir, Json, Quiet, Settings, Verbose, expanded_path
from pipeline.cli.run import Run, app
from pipeline.cli.streams import out
from pipeline.errors import UsageError
from pipeline.report import show_rows, write_map


@app.command("map")
def map_(
    directory: Annotated[
        Path | None, typer.Argument(metavar="[INDEX]", help="The index directory.", parser=expanded_path)
    ] = None,
    html: HtmlPage = None,
    method: Annotated[str, typer.Option("--method", help="pca, or umap, which shows groups and takes longer.")] = "pca",
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """A map of an index: similar images near to each other."""
    from pipeline.stages import map as stage

    if html is None and not as_json:
        raise UsageError("map needs --html FILE or --json")
    if directory is not None and index is not None:
        raise UsageError(f"map {directory} --index {index}: give the index once")
    run = Run(config, settings, {"index": directory or index}, as_json, verbose, quiet)
    document = stage.map_(run.config, method, run.reporter).to_json()
    if html is not None:
        write_map(html, document)
        run.note(f"map: {html}")
    run.show(document, _show)


def _show(document: dict[str, Any]) -> None:
    sizes = {
        "images": len(document["ids"]),
        "labels": len({label for label in document["labels"] if label}),
        "clusters": max(document["clusters"]) + 1,
        "method": document["method"],
        "seconds": document["seconds"],
    }
    show_rows(out, f"map of {document['index']}", sizes)
