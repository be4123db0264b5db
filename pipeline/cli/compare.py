"""`relook compare`: two evaluations, query by query."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import Figure, HtmlPage, Json, Quiet, Verbose, expanded_path
from pipeline.cli.run import Run, app
from pipeline.cli.streams import out
from pipeline.report import check_ending, save_comparison_figure, show_comparison, write_comparison


@app.command()
def compare(
    before: Annotated[
        Path, typer.Argument(metavar="A", help="An evaluation.json, or the folder of one.", parser=expanded_path)
    ],
    after: Annotated[
        Path | None,
        typer.Argument(
            metavar="[B]", help="Another; without it A's re-ranking with its global search.", parser=expanded_path
        ),
    ] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="The metric that counts wins and losses.")] = None,
    html: HtmlPage = None,
    figure: Figure = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Compare two evaluations query by query, with a paired test."""
    from pipeline.stages import compare as stage

    if figure is not None:
        check_ending(figure)
    run = Run(None, None, {}, as_json, verbose, quiet)
    document = stage.compare(before, after, metric).to_json()
    if html is not None:
        write_comparison(html, document)
        run.note(f"pictures: {html}")
    if figure is not None:
        save_comparison_figure(figure, document)
        run.note(f"figure: {figure}")
    run.show(document, lambda shown: show_comparison(out, shown))
