"""`relook export`: the descriptors of an index for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, IndexDir, Json, Quiet, Settings, Verbose, expanded_path
from pipeline.cli.output import out
from pipeline.cli.run import Run, app
from pipeline.errors import UsageError
from pipeline.report import show_rows


@app.command()
def export(
    what: Annotated[str, typer.Argument(metavar="[globals|locals]", help="What to write.")],
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUT", help="globals: .npz, .npy, .parquet or .csv; locals: .hdf5.", parser=expanded_path
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="Local descriptors per image, at most; without it all.")
    ] = None,
    official_places: Annotated[
        bool, typer.Option("--official-places", help="Positions of locals row before column, as AMES's code has them.")
    ] = False,
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
        what, target = "locals", expanded_path(what)
    if what == "globals" and official_places:
        raise UsageError("--official-places is for local descriptors; a global one has no position")
    if what == "globals" and count is None:
        result = stage.export_globals(run.config, target)
    elif what == "locals":
        result = stage.export_locals(run.config, target, count, official_places)
    elif what == "globals":
        raise UsageError("--count is for local descriptors; an image has one global descriptor")
    else:
        raise UsageError(f"export {what}: expected globals or locals")
    run.show(result.to_json(), lambda document: show_rows(out, "export", document))
