"""`relook label`: a person says of pairs of photos whether they show the same thing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.options import (
    ConfigFile,
    Device,
    IndexDir,
    Json,
    Quiet,
    Settings,
    Store,
    Verbose,
    expanded_path,
    setting,
)
from pipeline.cli.run import Run, app
from pipeline.cli.streams import out
from pipeline.errors import UsageError
from pipeline.report import show_rows

# Contradictions that are named one by one.
_NAMED = 10


@app.command()
def label(
    directory: Annotated[
        Path | None, typer.Argument(metavar="[INDEX]", help="The index directory.", parser=expanded_path)
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            "--answers", metavar="FILE", help="Where answers are kept, to go on from.", show_default="answers.csv"
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="No page: write the groups of the answers as labels into this manifest.",
            parser=expanded_path,
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            "--pairs",
            metavar="FILE",
            help="No page: write pairs into this file, to be filled in and given as --answers.",
            parser=expanded_path,
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many pairs --pairs writes.")] = 100,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--out", help="The checkpoint of adapt, whose verified pairs are read.", metavar="FILE"),
    ] = None,
    port: Annotated[int | None, setting("serve.port", "--port", "The port; 0: a free one.", min=0, max=65535)] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    store: Store = None,
    device: Device = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Say in a browser which pairs of photos show the same thing: yes, no or unsure; the most useful pairs first."""
    from pipeline.stages import label as stage

    if directory is not None and index is not None:
        raise UsageError(f"label {directory} --index {index}: give the index once")
    if labels is not None and pairs is not None:
        raise UsageError("label --labels FILE --pairs FILE: give one of them")
    flags = {"index": directory or index, "store.kind": store, "device": device, "serve.port": port}
    flags |= {"adapt.answers": answers, "adapt.out": checkpoint}
    run = Run(config, settings, flags, as_json, verbose, quiet)
    kept = stage.answers_path(run.config)
    if labels is not None:
        run.show(stage.write_labels(run.config, labels, run.reporter).to_json(), _show_labels)
    elif pairs is not None:
        written = stage.write_pairs(run.config, pairs, count, run.reporter)
        run.show({"pairs": str(pairs), "count": written}, lambda document: show_rows(out, "pairs to answer", document))
    else:

        def listening(address: str) -> None:
            run.note(f"label {run.config.index} at {address}; answers go to {kept} (Ctrl-C ends it)")

        given = stage.label(run.config, listening, run.reporter)
        run.show({"answers": str(kept), "answered": given}, _show_answers)


def _show_answers(document: dict[str, Any]) -> None:
    show_rows(out, "label", {"file": document["answers"], **document["answered"]})


def _show_labels(document: dict[str, Any]) -> None:
    against = document["contradictions"]
    rows = {**document["answered"], "groups": document["groups"], "photos in groups": document["photos"]}
    show_rows(out, "label", {"file": document["labels"], **rows, "contradictions": len(against)})
    for first, second, answer in against[:_NAMED]:
        text = f"others say otherwise: {answer} for {first} and {second}"
        out.print(text, highlight=False, markup=False, soft_wrap=True)
