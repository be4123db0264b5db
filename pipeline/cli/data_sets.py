"""The verbs that exchange data with other programs: fetch, import, export.

Each parses, calls its stage and shows the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, IndexDir, Json, Quiet, Settings, Verbose
from pipeline.cli.output import out
from pipeline.cli.run import Run, app
from pipeline.errors import UsageError
from pipeline.report import show_rows


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A published data set; docs/datasets.md lists them.")],
    folder: Annotated[
        Path | None, typer.Option("--out", help="The target folder.", show_default="datasets/NAME")
    ] = None,
    local: Annotated[
        Path | None, typer.Option("--from", help="A local folder or archive; nothing is downloaded.")
    ] = None,
    first: Annotated[int | None, typer.Option("--first", min=0, metavar="N", help="Only the first N archives.")] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Download a published data set, with resume and checksums; or unpack local files."""
    from pipeline.stages import fetch as stage

    run = Run(config, settings, {}, as_json, verbose, quiet)
    result = stage.fetch(run.config, name, folder or Path("datasets") / name, local, first, run.reporter)
    if result.unproved:
        run.note(f"{result.unproved} files have no published checksum; their lengths and archives were checked")
    run.show(result.to_json(), lambda document: show_rows(out, "fetch", document))


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="DELG's folder, AMES's HDF5, or a CSV of vectors.")],
    format: Annotated[str, typer.Option("--format", help="auto, delg, ames or csv.")] = "auto",
    images: Annotated[str | None, typer.Option("--images", help="Paths and labels of the ids, as for extract.")] = None,
    ids: Annotated[Path | None, typer.Option("--ids", help="One id a line, for rows without names.")] = None,
    vectors: Annotated[
        Path | None, typer.Option("--globals", help="A global descriptor per row: .npy, or raw float32.")
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


@app.command()
def export(
    what: Annotated[str, typer.Argument(metavar="[globals|locals]", help="What to write.")],
    target: Annotated[
        Path | None,
        typer.Argument(metavar="OUT", help="globals: .npz, .npy, .parquet or .csv; locals: .hdf5."),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="Local descriptors per image, at most; without it all.")
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Write the descriptors of an index for other programs."""
    from pipeline.stages import export_descriptors as stage

    run = Run(config, settings, {"index": index}, as_json, verbose, quiet)
    if target is None:  # relook export OUT: the local descriptors
        what, target = "locals", Path(what)
    if what == "globals" and count is None:
        result = stage.export_globals(run.config, target)
    elif what == "locals":
        result = stage.export_locals(run.config, target, count)
    elif what == "globals":
        raise UsageError("--count is for local descriptors; an image has one global descriptor")
    else:
        raise UsageError(f"export {what}: expected globals or locals")
    run.show(result.to_json(), lambda document: show_rows(out, "export", document))


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
