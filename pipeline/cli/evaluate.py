"""The verbs that measure: evaluate and compare.

Each parses, calls its stage and shows the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, Device, IndexDir, Json, Quiet, Rerank, Settings, Store, Verbose, chain_of
from pipeline.cli.output import out
from pipeline.cli.run import Run, app
from pipeline.report import show_comparison, show_evaluation, show_sweep, write_comparison


@app.command()
def evaluate(
    images: Annotated[
        str | None,
        typer.Option("--images", help="A manifest or NAME:FOLDER; without it the index's labels."),
    ] = None,
    queries: Annotated[
        str | None, typer.Option("--queries", help="Labelled query photos; without it all labelled images.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Only this split of the ground truth.")] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="labels, revisited, gldv2, ...; without it that of the data set.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="Write JSON, CSV, Markdown and the configuration.")
    ] = None,
    axes: Annotated[
        list[str] | None,
        typer.Option("--sweep", metavar="KEY=V1,V2", help="Try settings on the validation split; repeatable."),
    ] = None,
    fill: Annotated[
        bool | None, typer.Option("--fill", help="Sync a hosted store first, which costs money.", show_default=False)
    ] = None,
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
    """Metrics of the global search and of the re-ranked results."""
    from pipeline.stages import evaluate as stage
    from pipeline.stages import sweep as sweeping

    flags = {
        "index": index,
        "store.kind": store,
        "device": device,
        "rerank.chain": chain_of(rerank),
        "evaluate.split": split,
        "evaluate.protocol": protocol,
        "evaluate.report": report,
        "evaluate.fill": fill,
    }
    run = Run(config, settings, flags, as_json, verbose, quiet)
    if axes:
        found = sweeping.sweep(run.config, axes, images, queries, run.reporter)
        run.note(f"settings are compared on the validation split {found.split!r}")
        run.show(found.to_json(), lambda document: show_sweep(out, document))
        return
    result = stage.evaluate(run.config, images, queries, run.reporter)
    if run.config.evaluate.report is not None:
        run.note(f"report: {run.config.evaluate.report}/evaluation.md")
    run.show(result.to_json(), lambda document: show_evaluation(out, document))


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="An evaluation.json, or the folder of one.")],
    after: Annotated[
        Path | None,
        typer.Argument(metavar="[B]", help="Another; without it A's re-ranking with its global search."),
    ] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="The metric that counts wins and losses.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with the pictures.")] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Compare two evaluations query by query, with a paired test."""
    from pipeline.stages import compare as stage

    run = Run(None, None, {}, as_json, verbose, quiet)
    document = stage.compare(before, after, metric).to_json()
    if html is not None:
        write_comparison(html, document)
        run.note(f"pictures: {html}")
    run.show(document, lambda shown: show_comparison(out, shown))
