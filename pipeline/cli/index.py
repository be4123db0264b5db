"""The verbs that write an index, fill a store, or check it: extract, upload, verify.

Each parses, calls its stage and shows the result.
"""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, Device, IndexDir, Json, MaxFailures, Quiet, Settings, Store, Verbose
from pipeline.cli.output import out
from pipeline.cli.run import Run, app
from pipeline.errors import RelookError, TooManyFailuresError
from pipeline.report import show_rows, show_verification


@app.command()
def extract(
    images: Annotated[str, typer.Option("--images", help="A folder, a manifest (.csv, .parquet) or NAME:FOLDER.")],
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

    run = Run(config, settings, {"index": index, "device": device}, as_json, verbose, quiet)
    result = stage.extract(run.config, images, run.reporter)
    run.show(result.to_json(), lambda document: show_rows(out, "extract", document))
    if result.failed:
        run.note(f"{result.failed} images could not be read; they are listed in {result.index}/failures.*")
    if max_failures is not None and result.failed > max_failures:
        raise TooManyFailuresError(f"{result.failed} images failed, more than --max-failures {max_failures}")


@app.command()
def upload(
    promote: Annotated[bool, typer.Option("--promote", help="Searches use this model from now on.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Delete the models that are not current.")] = False,
    bulk: Annotated[
        str | None, typer.Option("--bulk", metavar="URI", help="Import from gs://... or s3://... first.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and its cost.")] = False,
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
        run.show(stage.plan_upload(run.config).to_json(), lambda document: show_rows(out, "dry run", document))
        return
    result = stage.upload(run.config, run.reporter, promote=promote, prune=prune, bulk=bulk)
    run.show(result.to_json(), lambda document: show_rows(out, "upload", document))
    if result.service.get("current") != result.service.get("model"):
        run.note("searches use another model; to switch run: relook upload --promote")


@app.command()
def verify(
    sample: Annotated[int | None, typer.Option("--sample", min=1, help="Look at so many vectors only.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Make the store equal to the index.")] = False,
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    store: Store = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Does the store hold what the index holds? Ends with code 1 where it does not."""
    from pipeline.stages import verify as stage

    run = Run(config, settings, {"index": index, "store.kind": store}, as_json, verbose, quiet)
    result = stage.verify(run.config, sample, repair, run.reporter)
    run.show(result.to_json(), lambda document: show_verification(out, document))
    if result.damaged:
        raise RelookError(f"{len(result.damaged)} files of the index are damaged; extract again into a new --index")
    if result.differs:
        raise RelookError("the store does not hold what the index does; relook verify --repair mends it")
