"""`relook evaluate`: metrics of an index, or of settings that are compared (--sweep)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import (
    AcceptLicense,
    ConfigFile,
    Device,
    Figure,
    HtmlPage,
    IndexDir,
    Json,
    Quiet,
    Rerank,
    Settings,
    Store,
    Verbose,
    chain_of,
    expanded_path,
    expanded_source,
)
from pipeline.cli.run import Run, app
from pipeline.cli.streams import out
from pipeline.errors import UsageError
from pipeline.report import (
    check_ending,
    save_evaluation_figure,
    show_evaluation,
    show_rows,
    show_sweep,
    write_evaluation_page,
)


@app.command()
def evaluate(
    images: Annotated[
        str | None,
        typer.Option(
            "--images",
            metavar="PHOTOS",
            help="A manifest or NAME:FOLDER; without it the index's labels.",
            parser=expanded_source,
        ),
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            "--queries",
            metavar="PHOTOS",
            help="Labelled query photos; without it all labelled images.",
            parser=expanded_source,
        ),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Only this split of the ground truth.")] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="labels, revisited, gldv2, ...; without it that of the data set.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="Write JSON, CSV, Markdown and the configuration.")
    ] = None,
    html: HtmlPage = None,
    figure: Figure = None,
    axes: Annotated[
        list[str] | None,
        typer.Option("--sweep", metavar="KEY=V1,V2", help="Try settings on the validation split; repeatable."),
    ] = None,
    fill: Annotated[
        bool | None, typer.Option("--fill", help="Sync a hosted store first, which costs money.", show_default=False)
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="K/N", help="Rank the K-th of N shares of the queries; needs --parts."),
    ] = None,
    join: Annotated[bool, typer.Option("--join", help="Score what all shards ranked; needs --parts.")] = False,
    parts: Annotated[
        Path | None,
        typer.Option("--parts", metavar="DIR", help="Where shards leave what they ranked.", parser=expanded_path),
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    store: Store = None,
    rerank: Rerank = None,
    accept_license: AcceptLicense = None,
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
        "accept_license": accept_license or None,
        "rerank.chain": chain_of(rerank),
        "evaluate.split": split,
        "evaluate.protocol": protocol,
        "evaluate.report": report,
        "evaluate.fill": fill,
    }
    if figure is not None:
        check_ending(figure)
    if axes and (html is not None or figure is not None):
        raise UsageError("--sweep compares settings in a table; --html and --figure are of one evaluation")
    _check_shards(shard, join, parts, bool(html or figure or report), bool(axes))
    run = Run(config, settings, flags, as_json, verbose, quiet, bucket=True)
    if shard is not None and parts is not None:
        summary = stage.evaluate_shard(run.config, shard, parts, images, queries, run.reporter)
        run.show(summary.to_json(), lambda document: show_rows(out, "evaluate", document))
        run.note(f"when all shards are done: the same command with --join in place of --shard {shard}")
        return
    if axes:
        found = sweeping.sweep(run.config, axes, images, queries, run.reporter)
        run.note(f"settings are compared on the validation split {found.split!r}")
        run.show(found.to_json(), lambda document: show_sweep(out, document))
        return
    result = stage.evaluate(run.config, images, queries, run.reporter, parts=parts)
    if run.config.evaluate.report is not None:
        run.note(f"report: {run.config.evaluate.report}/evaluation.md")
    if html is not None:
        write_evaluation_page(html, [result.to_report()])
        run.note(f"pictures: {html}")
    if figure is not None:
        save_evaluation_figure(figure, [result.to_report()])
        run.note(f"figure: {figure}")
    run.show(result.to_json(), lambda document: show_evaluation(out, document))


def _check_shards(shard: str | None, join: bool, parts: Path | None, shown: bool, sweep: bool) -> None:
    if shard is not None and join:
        raise UsageError("--shard and --join: a shard ranks queries, the join comes when all of them are done")
    if (shard is not None or join) != (parts is not None):
        raise UsageError("--parts DIR goes with --shard K/N or --join: all of them name the same folder")
    if sweep and parts is not None:
        raise UsageError("--sweep is not divided: leave --shard, --join and --parts")
    if shard is not None and shown:
        raise UsageError("--shard ranks a part of the queries; give --report, --html, --figure with --join")
