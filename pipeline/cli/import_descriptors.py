"""`relook import`: descriptors of other programs become an index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, IndexDir, Json, Quiet, Settings, Verbose, expanded_path, expanded_source
from pipeline.cli.run import Run, app
from pipeline.cli.streams import out
from pipeline.errors import UsageError
from pipeline.report import show_rows


@app.command("import")
def import_(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="DELG's folder, AMES's HDF5, or a CSV of vectors.", parser=expanded_path),
    ],
    format: Annotated[str, typer.Option("--format", help="auto, delg, ames or csv.")] = "auto",
    images: Annotated[
        str | None,
        typer.Option(
            "--images", metavar="PHOTOS", help="Paths and labels of the ids, as for extract.", parser=expanded_source
        ),
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option("--ids", metavar="FILE", help="One id a line, for rows without names.", parser=expanded_path),
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(
            "--globals",
            metavar="FILE",
            help="A global descriptor per row: .npy, or raw float32.",
            parser=expanded_path,
        ),
    ] = None,
    scales: Annotated[
        str | None, typer.Option("--scales", help="Values of the scale numbers, such as 0.7071,1.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Name of the model that made the descriptors.")] = None,
    normalise: Annotated[bool, typer.Option("--normalise", help="Scale vectors to unit length.")] = False,
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Import descriptors that another program made into an index."""
    from pipeline.stages.import_descriptors import Options, import_descriptors

    run = Run(config, settings, {"index": index}, as_json, verbose, quiet)
    options = Options(ids, vectors, _scales(scales))
    result = import_descriptors(run.config, source, format, options, images, model, normalise, run.reporter)
    if result.globals != "given":
        run.note("the source has no global descriptors: the mean of an image's local descriptors is used")
    if result.unmatched:
        run.note(f"{result.unmatched} ids are not in --images; they have no path and no label")
    run.show(result.to_json(), lambda document: show_rows(out, "import", document))


def _scales(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        scales = tuple(float(part) for part in text.split(","))
    except ValueError:
        scales = ()
    if not scales or not all(0 < scale < float("inf") for scale in scales):
        raise UsageError(f"--scales {text}: expected numbers above 0 with commas between them")
    return scales
