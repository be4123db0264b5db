"""The verbs that write an index, sync a store, and verify it: extract, upload, verify.

Each parses, calls its stage and shows the result.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli.options import (
    ConfigFile,
    Device,
    IndexDir,
    Json,
    LabelsFile,
    MaxFailures,
    MaxRemoved,
    Quiet,
    Settings,
    Store,
    Verbose,
)
from pipeline.cli.output import out
from pipeline.cli.run import Run, app
from pipeline.cli.signals import stop_on_signals
from pipeline.errors import RelookError, TooManyFailuresError, UsageError
from pipeline.report import show_rows, show_verification
from pipeline.workflow.stop import Stop


@app.command()
def extract(
    photos: Annotated[
        str | None,
        typer.Argument(
            metavar="[PHOTOS]", help="A folder, a manifest (.csv, .parquet) or NAME:FOLDER; else catalog.images."
        ),
    ] = None,
    images: Annotated[str | None, typer.Option("--images", help="The same as PHOTOS.", metavar="PHOTOS")] = None,
    labels: LabelsFile = None,
    max_removed: MaxRemoved = None,
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
    flags = {"index": index, "device": device, "catalog.labels_file": labels, "reindex.max_removed": max_removed}
    run = Run(config, settings, flags, as_json, verbose, quiet)
    stop = Stop()
    with stop_on_signals(stop):
        result = stage.extract(run.config, photos or images, run.reporter, stop)
    run.show(result.to_json(), lambda document: show_rows(out, "extract", _rows_of(document)))
    if result.stopped:
        run.note(f"stopped by {result.stopped}: what was finished is committed; run it again to describe the rest")
    if result.failed:
        run.note(f"{result.failed} images could not be read; they are listed in {result.index}/failures.*")
    if max_failures is not None and result.failed > max_failures:
        raise TooManyFailuresError(f"{result.failed} images failed, more than --max-failures {max_failures}")


def _rows_of(document: dict[str, Any]) -> dict[str, Any]:
    """The summary for people, without what says nothing in most runs."""
    seldom = {"outcome": "done", "stopped": "", "model": "same", "folded": 0, "store": {}, "unmatched": 0}
    return {key: value for key, value in document.items() if key not in seldom or value != seldom[key]}


@app.command()
def upload(
    promote: Annotated[bool, typer.Option("--promote", help="Make this the model that searches use.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Delete the other models that relook uploaded.")] = False,
    bulk: Annotated[
        str | None, typer.Option("--bulk", metavar="URI", help="Import from gs://... or s3://... first.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be written, and its cost.")] = False,
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    store: Store = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Bring the vector store to the state of the index; the built-in table is verified."""
    from pipeline.stages import upload as stage

    run = Run(config, settings, {"index": index, "store.kind": store}, as_json, verbose, quiet)
    if dry_run:
        run.show(stage.plan_upload(run.config, prune).to_json(), lambda document: show_rows(out, "dry run", document))
        return
    result = stage.upload(run.config, run.reporter, promote=promote, prune=prune, bulk=bulk)
    run.show(result.to_json(), lambda document: show_rows(out, "upload", document))
    if result.service.get("current") != result.service.get("model"):
        run.note("searches use another model; to switch run: relook upload --promote")


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
