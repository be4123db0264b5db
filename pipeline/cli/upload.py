"""`relook upload`: the store follows the index."""

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
from pipeline.errors import UsageError
from pipeline.report import show_rows


@app.command()
def upload(
    promote: Annotated[bool, typer.Option("--promote", help="Make this the model that searches use.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Delete the other models that relook uploaded.")] = False,
    bulk: Annotated[
        str | None, typer.Option("--bulk", metavar="URI", help="Import from gs://... or s3://... first.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be written, and its cost.")] = False,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="K/N", help="Send the K-th of N shares; then upload without it.")
    ] = None,
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

    if shard is not None and (promote or prune or dry_run or bulk is not None):
        raise UsageError("--shard only sends; give --promote, --prune, --bulk, --dry-run to an upload without it")
    run = Run(config, settings, {"index": index, "store.kind": store}, as_json, verbose, quiet, bucket=True)
    if dry_run:
        run.show(stage.plan_upload(run.config, prune).to_json(), lambda document: show_rows(out, "dry run", document))
        return
    if shard is not None:
        sent = stage.upload_share(run.config, shard, run.reporter)
        run.show(sent.to_json(), lambda document: show_rows(out, "upload", document))
        run.note("when all shards are done: relook upload")
        return
    result = stage.upload(run.config, run.reporter, promote=promote, prune=prune, bulk=bulk)
    run.show(result.to_json(), lambda document: show_rows(out, "upload", document))
    if result.service.get("current") != result.service.get("model"):
        run.note("searches use another model; to switch run: relook upload --promote")
