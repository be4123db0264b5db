"""`relook version`: the same as `relook --version`."""

from __future__ import annotations

from pipeline import __version__
from pipeline.cli.streams import out
from pipeline.cli.run import app


@app.command()
def version() -> None:
    """Show the version."""
    out.print(__version__)
