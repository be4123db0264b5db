"""`relook match`: do two photos show the same thing?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.options import AcceptLicense, ConfigFile, Device, Json, Quiet, Settings, Verbose, expanded_path
from pipeline.cli.run import Run, app
from pipeline.cli.streams import out
from pipeline.report import show_rows

_VERDICTS = {
    "same": "the same thing",
    "unsure": "perhaps the same thing",
    "different": "no sign of the same thing",
}


@app.command()
def match(
    first: Annotated[Path, typer.Argument(metavar="PHOTO", help="A photo.", show_default=False, parser=expanded_path)],
    second: Annotated[
        Path, typer.Argument(metavar="PHOTO", help="Another one.", show_default=False, parser=expanded_path)
    ],
    picture: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Draw both photos and what matches, .png or .jpg.", parser=expanded_path
        ),
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    accept_license: AcceptLicense = None,
    device: Device = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Do two photos show the same thing? Matches their keypoints and verifies the geometry; needs no index."""
    from pipeline.stages import match as stage

    run = Run(config, settings, {"device": device, "accept_license": accept_license or None}, as_json, verbose, quiet)
    result = stage.match(run.config, first, second)
    if picture is not None:
        from pipeline.report.match_picture import MatchedPoints, write_match

        write_match(picture, *result.pictures, MatchedPoints.from_json(result.found.to_json()))
        run.note(f"picture: {picture}")
    run.show(result.to_json(), _show)


def _show(document: dict[str, Any]) -> None:
    left, right = document["keypoints"]
    rows = {
        "keypoints": f"{left} and {right}",
        "matches": document["matches"],
        "inliers": f"{document['inliers']} ({document['geometry']})",
        "support": f"{document['support']:.1f}",
        "verdict": _VERDICTS[document["verdict"]],
    }
    show_rows(out, "match", rows)
