"""`relook reindex`: index and store follow the photos, unattended."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.options import (
    AcceptLicense,
    ConfigFile,
    Device,
    IndexDir,
    Json,
    LabelsFile,
    LogJson,
    MaxFailures,
    MaxRemoved,
    Metrics,
    Quiet,
    Settings,
    Store,
    Verbose,
    Wait,
    expanded_source,
)
from pipeline.cli.run import Run, app
from pipeline.cli.unattended import UnattendedRun, run_maintenance, seconds_of
from pipeline.errors import TooManyFailuresError
from pipeline.workflow.stop import Stop


@app.command()
def reindex(
    images: Annotated[
        str | None,
        typer.Option(
            "--images",
            metavar="PHOTOS",
            help="A folder, a manifest or NAME:FOLDER; else catalog.images.",
            parser=expanded_source,
        ),
    ] = None,
    labels: LabelsFile = None,
    max_removed: MaxRemoved = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Return to the generation before this one.")] = False,
    check_content: Annotated[
        bool, typer.Option("--check-content", help="Read every photo, whatever its size and time say.")
    ] = False,
    promote: Annotated[
        bool,
        typer.Option("--promote", help="Searches of a shared service use this index's model from now on."),
    ] = False,
    wait: Wait = None,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="TIME", help="Stop after this time, such as 2h; the next run continues."),
    ] = None,
    log_json: LogJson = False,
    metrics: Metrics = None,
    accept_license: AcceptLicense = None,
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    store: Store = None,
    device: Device = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    max_failures: MaxFailures = None,
) -> None:
    """Bring index and store to the state of the photos, by the smallest work; for cron."""
    from pipeline.stages import reindex as stage
    from pipeline.workflow.indexing.maintenance import rollback as roll_back

    flags = {
        "index": index,
        "store.kind": store,
        "device": device,
        "catalog.labels_file": labels,
        "reindex.max_removed": max_removed,
        "accept_license": accept_license or None,
    }
    run = Run(config, settings, flags, as_json, verbose, quiet or log_json, bucket=True)
    if rollback:
        run_maintenance(run, "rollback", roll_back, wait, log_json, metrics)
        return
    stop = Stop(seconds_of(timeout, "--timeout"))
    seconds = seconds_of(wait, "--wait") or 0.0
    unattended = UnattendedRun("reindex", stop, log_json, metrics)
    with unattended.around():
        result = stage.reindex(
            run.config, images, run.reporter, stop, wait=seconds, check_content=check_content, promote=promote
        )
        unattended.sum_up(result.to_json())
        if as_json:
            run.show(result.to_json(), None)
        if max_failures is not None and result.failed > max_failures:
            raise TooManyFailuresError(f"{result.failed} images failed, more than --max-failures {max_failures}")
