"""`relook search`: which photos of the index show the same thing?"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.options import (
    AcceptLicense,
    ConfigFile,
    Device,
    HtmlPage,
    IndexDir,
    Json,
    MaxFailures,
    Quiet,
    Rerank,
    Settings,
    Store,
    Verbose,
    chain_of,
    expanded_source,
    setting,
)
from pipeline.cli.run import Run, app
from pipeline.cli.streams import out
from pipeline.errors import TooManyFailuresError, UsageError
from pipeline.report import show_results, write_hits, write_search

Queries = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[QUERY]...",
        help="Photos, folders or manifests; - for a photo on stdin.",
        show_default=False,
        parser=expanded_source,
    ),
]
Ids = Annotated[
    list[str] | None, typer.Option("--id", metavar="ID", help="Search with an image of the index; repeatable.")
]
Like = Annotated[
    list[str] | None,
    typer.Option("--like", metavar="ID", help="Move the query towards an image of the index; repeatable."),
]
Unlike = Annotated[
    list[str] | None, typer.Option("--unlike", metavar="ID", help="Move it away from an image; repeatable.")
]
Box = Annotated[
    str | None, typer.Option("--bbox", metavar="X0,Y0,X1,Y1", help="Search with this part of the photo, in pixels.")
]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="KEY=A[,B]", help="Only images whose label, split or path is one of these."),
]
TopK = Annotated[int | None, setting("search.top_k", "--top-k", "Results per query.", min=1)]
MinScore = Annotated[
    float | None, typer.Option("--min-score", metavar="SCORE", help="Leave out results with a lower score.")
]
Explain = Annotated[bool, typer.Option("--explain", help="Say why, in --json and --html: what matches, and where.")]
Shard = Annotated[str | None, typer.Option("--shard", metavar="K/N", help="Only the K-th of N shares of the queries.")]
Tsv = Annotated[bool, typer.Option("--tsv", help="Tab-separated lines, one per result, after a header.")]


@app.command()
def search(
    queries: Queries = None,
    config: ConfigFile = None,
    settings: Settings = None,
    index: IndexDir = None,
    ids: Ids = None,
    like: Like = None,
    unlike: Unlike = None,
    bbox: Box = None,
    where: Where = None,
    store: Store = None,
    rerank: Rerank = None,
    top_k: TopK = None,
    min_score: MinScore = None,
    html: HtmlPage = None,
    explain: Explain = False,
    tsv: Tsv = False,
    shard: Shard = None,
    accept_license: AcceptLicense = None,
    device: Device = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    max_failures: MaxFailures = None,
) -> None:
    """Which photos of the index show the same thing as these?"""
    from pipeline.stages import search as stage

    if explain and not as_json and html is None:
        raise UsageError("--explain needs --json or --html, which show reasons")
    if tsv and as_json:
        raise UsageError("--tsv and --json cannot be combined")
    flags = {
        "index": index,
        "store.kind": store,
        "device": device,
        "accept_license": accept_license or None,
        "search.top_k": top_k,
        "rerank.chain": chain_of(rerank),
    }
    run = Run(config, settings, flags, as_json, verbose, quiet, bucket=True)
    box, only = _box(bbox), _filter(where)
    result = stage.search(
        run.config,
        queries or [],
        run.reporter,
        ids=ids or [],
        like=like or [],
        unlike=unlike or [],
        bbox=box,
        where=only,
        min_score=min_score,
        explain=explain,
        shard=shard,
    )
    _show(run, result.to_json(), html, tsv)
    if max_failures is not None and len(result.failed) > max_failures:
        raise TooManyFailuresError(f"{len(result.failed)} queries failed, more than --max-failures {max_failures}")


def _show(run: Run, document: dict[str, Any], html: Path | None, tsv: bool) -> None:
    if html is not None:
        write_search(html, document)
        run.note(f"pictures: {html}")
    run.show(document, lambda shown: _show_lines(run, shown) if tsv else show_results(out, shown, Path.cwd()))


def _show_lines(run: Run, document: dict[str, Any]) -> None:
    write_hits(sys.stdout, document)
    for query in document["queries"]:
        if "error" in query:
            run.note(f"{query['query']}: {query['error']}")


def _box(text: str | None) -> list[float] | None:
    """The numbers of `--bbox`. Raises UsageError where they are not four."""
    if text is None:
        return None
    try:
        numbers = [float(number) for number in text.split(",")]
        if len(numbers) != 4:
            raise ValueError
    except ValueError:
        raise UsageError(f"--bbox {text}: expected X0,Y0,X1,Y1, such as 10,20,300,400") from None
    return numbers


def _filter(texts: list[str] | None) -> dict[str, list[str]] | None:
    """The values of each `--where`, as one line of CSV: a value with a comma is quoted. Raises UsageError."""
    if not texts:
        return None
    found: dict[str, list[str]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals:
            raise UsageError(f"--where {text}: expected KEY=VALUE[,VALUE], such as label=cat,dog")
        try:
            rows = list(csv.reader([values], strict=True))
        except csv.Error as error:
            raise UsageError(f"--where {text}: {error}") from None
        found.setdefault(key.strip(), []).extend(rows[0] if rows else [""])
    return found
