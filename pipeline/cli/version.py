"""`relook version`: the same as `relook --version`."""

from __future__ import annotations

from pipeline import __version__
from pipeline.cli.run import app
from pipeline.cli.streams import out


@app.command()
def version() -> None:
    """Show the version."""
    out.print(__version__)
