"""`relook adapt`: a describer learns from the photos of an index, without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, Device, HtmlPage, IndexDir, Json, Quiet, Settings, Store, Verbose
from pipeline.cli.run import Run, app
from pipeline.cli.streams import out
from pipeline.report import show_adaptation, write_adaptation


@app.command()
def adapt(
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Where the checkpoint is written.", show_default="describers/NAME-adapted.safetensors"
        ),
    ] = None,
    veto: Annotated[
        Path | None,
        typer.Option("--veto", metavar="FILE", help="A text file with an image id a line: its group teaches nothing."),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option("--answers", metavar="FILE", help="What a person said of pairs in relook label: surer than any."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="FILE", help="Write the groups as labels into this manifest, to train from."),
    ] = None,
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
    """Learn from an index without labels: photos that match point by point show the same thing."""
    from pipeline.stages import adapt as stage

    flags = {"index": index, "store.kind": store, "device": device, "adapt.out": checkpoint, "adapt.veto": veto}
    flags |= {"adapt.answers": answers, "adapt.labels": labels}
    run = Run(config, settings, flags, as_json, verbose, quiet)
    document = stage.adapt(run.config, run.reporter).to_json()
    if labels is not None:
        run.note(f"labels: {labels}")
    if html is not None:
        write_adaptation(html, document)
        run.note(f"groups: {html}")
    run.show(document, lambda shown: show_adaptation(out, shown))
