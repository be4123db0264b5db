"""`relook config`: every setting, its default and its meaning."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, Json, Quiet, Settings, Verbose
from pipeline.cli.run import Run, app
from pipeline.cli.streams import out
from pipeline.report import show_settings


@app.command()
def config(
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="A setting or a section, such as search.")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="The JSON schema of a configuration file.")] = False,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="A configuration file with comments.")] = False,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Every setting: its value, its default and its meaning."""
    from pipeline.stages import config as stage

    run = Run(config, settings, {}, as_json or schema, verbose, quiet)
    if schema:
        run.show(stage.schema(), None)
        return
    if as_yaml:
        sys.stdout.write(stage.to_yaml(run.config))
        return
    run.show(stage.to_json(stage.settings(run.config, key)), lambda document: show_settings(out, document))
