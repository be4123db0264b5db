"""`relook train-rerank`: a reranker is trained on the labelled images of an index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import (
    ConfigFile,
    Device,
    DryRun,
    HtmlPage,
    IndexDir,
    Json,
    Quiet,
    Settings,
    Store,
    Verbose,
    setting,
)
from pipeline.cli.run import Run, app
from pipeline.errors import UsageError
from pipeline.workflow.rerank_chain import set_default_chain


@app.command("train-rerank")
def train_rerank(
    reranker: Annotated[
        str | None, setting("train_rerank.reranker", "--reranker", "rrt, rrt_sop, ames, elvis, locore or cvnet.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Where the best checkpoint is written.", show_default="INDEX/rerankers/NAME.safetensors"
        ),
    ] = None,
    default: Annotated[
        bool, typer.Option("--default", help="Searches of this index use it unless --rerank names others.")
    ] = False,
    dry_run: DryRun = False,
    html: HtmlPage = None,
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    store: Store = None,
    device: Device = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Train a reranker on the labelled images of an index, with candidates of its store."""
    from pipeline.stages import train_rerank as stage

    flags = {
        "index": index,
        "store.kind": store,
        "device": device,
        "train_rerank.reranker": reranker,
        "train_rerank.out": checkpoint,
    }
    run = Run(config, settings, flags, as_json, verbose, quiet)
    if default and run.config.train_rerank.out is not None:
        raise UsageError("--default: the checkpoint has to be the index's own; leave --out and train_rerank.out unset")
    if dry_run:
        run.show_cost(stage.dry_run_rerank(run.config))
        return
    result = stage.train_rerank(run.config, run.reporter)
    if default:
        set_default_chain(run.config.index, [run.config.train_rerank.reranker])
    run.show_training(result, html)
