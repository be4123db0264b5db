"""The verb that asks: search.

It parses, calls its stage and shows the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import (
    ConfigFile,
    Device,
    IndexDir,
    Json,
    MaxFailures,
    Quiet,
    Rerank,
    Settings,
    Store,
    Verbose,
    chain_of,
)
from pipeline.cli.output import out
from pipeline.cli.run import Run, app
from pipeline.errors import TooManyFailuresError
from pipeline.report import show_results, write_page


@app.command()
def search(
    queries: Annotated[list[str], typer.Argument(metavar="QUERY...", help="Photos, folders or manifests.")],
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    store: Store = None,
    rerank: Rerank = None,
    top_k: Annotated[int | None, typer.Option("--top-k", min=1, help="Results per query.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with the pictures.")] = None,
    device: Device = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    max_failures: MaxFailures = None,
) -> None:
    """Which photos of the index show the same thing as these?"""
    from pipeline.stages import search as stage

    flags = {
        "index": index,
        "store.kind": store,
        "device": device,
        "search.top_k": top_k,
        "rerank.chain": chain_of(rerank),
    }
    run = Run(config, settings, flags, as_json, verbose, quiet)
    result = stage.search(run.config, queries, run.reporter)
    document = result.to_json()
    if html is not None:
        write_page(html, document)
        run.note(f"pictures: {html}")
    run.show(document, lambda shown: show_results(out, shown, Path.cwd()))
    if max_failures is not None and len(result.failed) > max_failures:
        raise TooManyFailuresError(f"{len(result.failed)} queries failed, more than --max-failures {max_failures}")
