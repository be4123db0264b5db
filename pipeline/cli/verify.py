"""`relook verify`: the store is compared with the index."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.options import (
    ConfigFile,
    IndexDir,
    Json,
    Quiet,
    Settings,
    Store,
    Verbose,
)
from pipeline.cli.run import Run, app
from pipeline.cli.streams import out
from pipeline.errors import RelookError
from pipeline.report import show_verification


@app.command()
def verify(
    sample: Annotated[int | None, typer.Option("--sample", min=1, help="Compare only this number of vectors.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Write and delete what differs in the store.")] = False,
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    store: Store = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Compare the store with the index; exit code 1 where they differ."""
    from pipeline.stages import verify as stage

    run = Run(config, settings, {"index": index, "store.kind": store}, as_json, verbose, quiet)
    result = stage.verify(run.config, sample, repair, run.reporter)
    run.show(result.to_json(), lambda document: show_verification(out, document))
    if result.damaged:
        raise RelookError(f"{len(result.damaged)} files of the index are damaged; extract into a new --index")
    if result.differs:
        raise RelookError("the store differs from the index; run: relook verify --repair")
