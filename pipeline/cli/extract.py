"""`relook extract`: photos become an index."""

from __future__ import annotations

import shlex
from typing import Annotated, Any, Literal

import typer

from pipeline.cli.options import (
    AcceptLicense,
    ConfigFile,
    Device,
    IndexDir,
    Json,
    LabelsFile,
    MaxFailures,
    MaxRemoved,
    Quiet,
    Settings,
    Verbose,
    expanded_source,
)
from pipeline.cli.run import Run, app
from pipeline.cli.streams import out
from pipeline.errors import TooManyFailuresError, UsageError
from pipeline.report import show_rows
from pipeline.workflow.stop import Stop, stop_on_signals


@app.command()
def extract(
    photos: Annotated[
        str | None,
        typer.Argument(
            metavar="[PHOTOS]",
            help="A folder, a manifest (.csv, .parquet) or NAME:FOLDER; else catalog.images.",
            parser=expanded_source,
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option("--images", help="The same as PHOTOS.", metavar="PHOTOS", parser=expanded_source),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="K/N", help="Describe the K-th of N shares, beside the other processes."),
    ] = None,
    join: Annotated[bool, typer.Option("--join", help="Commit what all shards described.")] = False,
    engine: Annotated[
        Literal["here", "ray"], typer.Option("--engine", help="What describes: this process, or a Ray cluster.")
    ] = "here",
    labels: LabelsFile = None,
    max_removed: MaxRemoved = None,
    accept_license: AcceptLicense = None,
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    device: Device = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    max_failures: MaxFailures = None,
) -> None:
    """Describe photos into an index; run again, it does only what changed."""
    from pipeline.stages import extract as stage

    if photos is not None and images is not None:
        raise UsageError(f"{photos} and --images {images}: give the photos once")
    flags = {
        "index": index,
        "device": device,
        "catalog.labels_file": labels,
        "reindex.max_removed": max_removed,
        "accept_license": accept_license or None,
    }
    run = Run(config, settings, flags, as_json, verbose, quiet, bucket=True)
    if engine == "ray" and (shard is not None or join):
        raise UsageError("--engine ray: it divides the photos and joins the shards by itself; leave --shard and --join")
    if shard is not None:
        _one_shard(run, shard, photos or images, join)
        return
    if join and (photos or images):
        raise UsageError("--join takes no photos: they are those of the shards")
    stop = Stop()
    with stop_on_signals(stop):
        if join:
            result = stage.join(run.config)
        else:
            result = stage.extract(run.config, photos or images, run.reporter, stop, engine=engine)
    run.show(result.to_json(), lambda document: show_rows(out, "extract", _rows_of(document)))
    if result.stopped:
        run.note(f"stopped by {result.stopped}: what was finished is committed; run it again to describe the rest")
    if result.failed:
        run.note(
            f"{result.failed} images could not be read; see: relook info {shlex.quote(str(result.index))} --failures"
        )
    if max_failures is not None and result.failed > max_failures:
        raise TooManyFailuresError(f"{result.failed} images failed, more than --max-failures {max_failures}")


def _one_shard(run: Run, shard: str, images: str | None, join: bool) -> None:
    from pipeline.stages import extract as stage

    if join:
        raise UsageError("--shard and --join: a shard describes, the join comes when all of them are done")
    stop = Stop()
    with stop_on_signals(stop):
        result = stage.extract_shard(run.config, shard, images, run.reporter, stop)
    run.show(result.to_json(), lambda document: show_rows(out, "extract", document))
    if result.stopped:
        run.note(f"stopped by {result.stopped}: run the shard again to describe the rest")
    else:
        run.note(f"when all shards are done: relook extract --index {result.index} --join")


def _rows_of(document: dict[str, Any]) -> dict[str, Any]:
    """The summary for people: counts of what did not happen are left out, but for failures and what was not touched."""
    seldom = {"outcome": "done", "stopped": "", "model": "same", "store": {}}
    counts = ("changed", "moved", "relabelled", "removed", "ignored", "unmatched", "keypoints", "folded")
    names = {"keypoints": "keypoints alone"}
    return {
        names.get(key, key): value
        for key, value in document.items()
        if not (key in counts and value == 0) and not (key in seldom and value == seldom[key])
    }
