"""`demo`: every verb of the flow on the sample photos, in one command.

The first thing a new user runs. It learns on one part of the sample instances and is measured on the others, which it
has never seen; nothing here is special: each step is the verb of the same name.
"""

from __future__ import annotations

import csv
import shlex
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.catalog import load_catalog
from pipeline.config import load_config
from pipeline.config.loading import with_values
from pipeline.errors import RelookError
from pipeline.files import write_errors
from pipeline.report import show_evaluation, show_results, show_rows, write_evaluation_page, write_search
from pipeline.stages.evaluate import evaluate
from pipeline.stages.extract import extract
from pipeline.stages.search import search
from pipeline.stages.train_rerank import train_rerank
from pipeline.stages.upload import upload
from pipeline.workflow.progress import Reporter

_SETTINGS = (
    "train_rerank.split=train",
    "evaluate.split=val",
    "train_rerank.triplets=2000",
    "train_rerank.epochs=4",
    "search.top_k=5",
    "search.skip_itself=true",
    # Less than half of the default's keypoints: less time, and most of the gain.
    "describe.keypoints.kind=xfeat",
    "describe.keypoints.count=416",
    # The queries are written beside the index and name the sample photos where they lie.
    "catalog.outside=allow",
)
_QUERIES = 3
# What pays comes first; the order in which the table shows them.
_CHAINS = (("superglobal", "matching"), ("superglobal",), ("rrt",))


def sample_photos() -> Path:
    """The manifest of the sample photos, in a checkout or in the installed package. Raises RelookError when gone."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "samples", package.parent / "data" / "samples"):
        if (folder / "manifest.csv").is_file():
            return folder / "manifest.csv"
    raise RelookError("the sample photos are not installed; make them with: python data/make_samples.py")


def run_demo(folder: Path, console: Console, reporter: Reporter) -> dict[str, Any]:
    """Run every verb on the sample photos.

    Args:
        folder: where index, checkpoint and page go.
        console: where tables go.
        reporter: told about the progress.

    Returns:
        The `evaluate` document, with the seconds of each stage under "stages".
    """
    manifest = sample_photos()
    config = load_config(overrides=[f"index={folder / 'index'}", *_SETTINGS])
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.monotonic()
        result = work()
        seconds[name] = round(time.monotonic() - started, 1)
        return result

    timed("extract", lambda: extract(config, str(manifest), reporter))
    timed("upload", lambda: upload(config))
    trained = timed("train-rerank", lambda: train_rerank(config, reporter))
    queries = _write_queries(manifest, folder / "queries.csv")
    measured = []
    for chain in _CHAINS:
        chosen = with_values(config, {"rerank.chain": chain}, "demo")
        if chain is _CHAINS[0]:
            found = timed("search", partial(search, chosen, [str(queries)], reporter, explain=True)).to_json()
        work = partial(evaluate, chosen, str(manifest), reporter=reporter)
        measured.append(timed(f"evaluate {','.join(chain)}", work).to_report())

    page, metrics = folder / "results.html", folder / "evaluation.html"
    write_search(page, found, measured)
    write_evaluation_page(metrics, measured)
    show_results(console, found, manifest.parent)
    show_evaluation(console, *measured)
    show_rows(console, "seconds", seconds)
    written = f"the reranker: {trained.checkpoint}\nthe pictures: {page}\nthe metrics: {metrics}"
    console.print(f"{written}\n{_next(folder)}", highlight=False, markup=False, soft_wrap=True)
    return {**measured[0], "stages": seconds}


def _next(folder: Path) -> str:
    """What to try after the demo, as commands that run as they stand."""
    index = shlex.quote(str(folder / "index"))
    commands = (
        ("see the collection as a map", f"relook map {index} --html map.html"),
        ("what the index holds", f"relook info {index} --html index.html"),
        ("your own photos", "relook extract PHOTOS"),
        ("search them", "relook search PHOTO --rerank superglobal,matching --explain --html results.html"),
        ("measure them", "relook extract labels.csv --index labelled && relook evaluate --index labelled"),
    )
    width = max(len(what) for what, _ in commands)
    return "\n".join(["", "what to try next", *(f"  {what:<{width}}  {command}" for what, command in commands)])


def _write_queries(manifest: Path, file: Path) -> Path:
    """A manifest of one photo of three of the instances outside of the training set, spread over their names."""
    first = {record.label: record for record in reversed(load_catalog(str(manifest)).select("val").records)}
    labels = sorted(label for label in first if label)
    chosen = [first[label] for label in labels[:: len(labels) // _QUERIES][:_QUERIES]]
    with write_errors(file), file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label"])
        writer.writerows([str(manifest.parent / record.path), record.label] for record in chosen)
    return file
