"""`relook calibrate`: weights, margins and calibrations of rerankers, from the labelled images of an index."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.options import (
    ConfigFile,
    Device,
    IndexDir,
    Json,
    Quiet,
    Rerank,
    Settings,
    Store,
    Verbose,
    chain_of,
    expanded_source,
)
from pipeline.cli.run import Run, app
from pipeline.cli.streams import out
from pipeline.report import show_calibration, show_rows


@app.command()
def calibrate(
    images: Annotated[
        str | None,
        typer.Option(
            "--images", help="A manifest or NAME:FOLDER; without it the index's labels.", parser=expanded_source
        ),
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            "--queries", help="Labelled query photos; without it all labelled images.", parser=expanded_source
        ),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Only this split of the ground truth.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove what an earlier run found.")] = False,
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    store: Store = None,
    rerank: Rerank = None,
    device: Device = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Fit how scores are fused, and how deep rerankers look, to the labels of an index."""
    from pipeline.stages import calibrate as stage

    flags = {
        "index": index,
        "store.kind": store,
        "device": device,
        "rerank.chain": chain_of(rerank),
        "evaluate.split": split,
    }
    run = Run(config, settings, flags, as_json, verbose, quiet)
    if remove:
        run.show(stage.remove(run.config), lambda document: show_rows(out, "calibration", document))
        return
    result = stage.calibrate(run.config, images, queries, run.reporter)
    run.show(result.to_json(), lambda document: show_calibration(out, document))
