"""Tables in the terminal: the result of a verb, on stdout.

Used by the CLI and the demo.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipeline.report.cells import shown

# Metrics that stand side by side on a terminal.
_COLUMNS = 6


def show_results(console: Console, result: Mapping[str, Any], root: Path | None = None) -> None:
    """Print one table per query of a `search` document; paths are shown relative to `root` where they lie below it."""
    chain = " > ".join(result["rerank"]) or "global search alone"
    for query in result["queries"]:
        title = _short(query["query"], root)
        if "error" in query:
            console.print(shown(f"{title}: {query['error']}", "red"))
            continue
        table = Table(title=shown(title, "bold"), caption=_caption(chain, result), title_justify="left")
        for heading in ("#", "was", "score", "global"):
            table.add_column(heading, justify="right")
        table.add_column("label")
        table.add_column("photo", overflow="fold")
        for hit in query["results"]:
            table.add_row(
                str(hit["rank"]),
                str(hit["global_rank"]),
                f"{hit['score']:.3f}",
                f"{hit['global_score']:.3f}",
                shown(hit["label"]),
                shown(_short(hit["path"], root)),
            )
        console.print(table)


def show_evaluation(console: Console, *results: Mapping[str, Any]) -> None:
    """Print `evaluate` documents of the same queries in one table: the global search, and each re-ranking.

    Beside a re-ranking is the mean difference to the global search over the same queries and its standard error.
    Few metrics are columns; the many of Revisited Oxford and Paris are rows.
    """
    first = results[0]
    caption = _caption(f"{first['queries']} queries, gallery of {first['gallery']}{_speed(results[-1])}", first)
    metrics = list(first["global"])
    rows: list[tuple[str, list[str], str]] = [
        ("global search", [f"{first['global'][name]:.2f}" for name in metrics], "")
    ]
    for result in results:
        if result["reranked"]:
            difference = result["difference"]
            values = [f"{result['reranked'][name]:.2f}" for name in metrics]
            rows.append((" > ".join(result["rerank"]), values, ""))
            cells = [f"{difference[name]:+.2f} ±{difference[f'{name}_se']:.2f}" for name in metrics]
            rows.append(("  difference", cells, "bold"))
    table = Table(title="Before and after re-ranking", caption=caption, title_justify="left")
    table.add_column("percent", no_wrap=True)
    if len(metrics) <= _COLUMNS:
        for name in metrics:
            table.add_column(name, justify="right", no_wrap=True)
        for heading, cells, style in rows:
            table.add_row(heading, *cells, style=style)
    else:
        for heading, _cells, style in rows:
            table.add_column(heading.strip(), justify="right", style=style)
        for number, name in enumerate(metrics):
            table.add_row(name, *(cells[number] for _heading, cells, _style in rows))
    console.print(table)


def show_sweep(console: Console, result: Mapping[str, Any]) -> None:
    """Print the table of a sweep: one row per combination, the best in bold."""
    metric, best = result["metric"], result["best"]
    caption = f"split {result['split']} alone: {result['queries']} queries, gallery of {result['gallery']}"
    table = Table(title="Sweep on the validation split", caption=_caption(caption, result), title_justify="left")
    for key in best["settings"]:
        table.add_column(key, justify="right")
    metrics = [name for name in best["reranked"] if name == metric or len(best["reranked"]) <= _COLUMNS]
    for name in [*metrics, f"{metric} difference"]:
        table.add_column(name, justify="right", no_wrap=True)
    cells = [f"{result['global'][name]:.2f}" for name in metrics]
    table.add_row("global search", *[""] * (len(best["settings"]) - 1), *cells, "")
    for row in result["rows"]:
        cells = [f"{row['reranked'][name]:.2f}" for name in metrics]
        change = f"{row['difference'][metric]:+.2f} ±{row['difference'][f'{metric}_se']:.2f}"
        settings = [str(value) for value in row["settings"].values()]
        table.add_row(*settings, *cells, change, style="bold" if row is best else "")
    console.print(table)
    words = " ".join(f"--set {key}={json.dumps(value)}" for key, value in best["settings"].items())
    console.print(f"best {metric}: {words}", highlight=False, markup=False, soft_wrap=True)


def show_calibration(console: Console, result: Mapping[str, Any]) -> None:
    """Print a `calibrate` document: before and after, then what was found for each reranker."""
    caption = f"{result['queries']} queries of {result['labels']} labels"
    table = Table(title="Calibration", caption=_caption(caption, result), title_justify="left")
    table.add_column("percent", no_wrap=True)
    for heading in ("mAP", "R@1", "pairs scored"):
        table.add_column(heading, justify="right", no_wrap=True)
    chain = " > ".join(result["chain"])
    names = {
        "global": "global search",
        "before": f"{chain}, as configured",
        "after": "calibrated on all labels",
        "held_out": "on other labels",
    }
    for key, name in names.items():
        row = result[key]
        pairs = ", ".join(f"{count:,}" for count in row["pairs"].values())
        table.add_row(name, f"{row['mAP']:.2f}", f"{row['R@1']:.2f}", pairs)
    console.print(table)
    for step in result["steps"]:
        margin = "all of top" if step["margin"] is None else f"{step['margin']:.3f}"
        text = (
            f"{step['name']}: weight {step['weight']:.2f}, margin {margin}, {step['kind']} of {step['pairs']:,} pairs"
        )
        console.print(text, highlight=False, markup=False)
    held = result["held_out"]
    console.print(
        f"mAP on other labels, against as configured: {held['difference']:+.2f} ±{held['se']:.2f}",
        highlight=False,
    )
    worse = "nothing was written: held-out labels are ranked worse"
    console.print(worse if result["file"] is None else f"written: {result['file']}", highlight=False, markup=False)


def show_comparison(console: Console, result: Mapping[str, Any], count: int = 5) -> None:
    """Print a `compare` document: every metric with its test, then the `count` largest gains and losses."""
    # Narrow enough for 80 columns: a number that is cut off is none.
    title = shown(f"{result['before']} against {result['after']}")
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("percent", "before", "after", "change", "95 % interval", "p", "won/lost/tied"):
        table.add_column(name, justify="left" if name == "percent" else "right", no_wrap=True)
    for name, row in result["metrics"].items():
        low, high = row["interval"]
        numbers = [f"{row['before']:.2f}", f"{row['after']:.2f}", f"{row['difference']:+.2f}"]
        counts = "/".join(str(row[key]) for key in ("wins", "losses", "ties"))
        table.add_row(name, *numbers, f"{low:+.2f} to {high:+.2f}", f"{row['p_value']:.3f}", counts)
    console.print(table)
    changed = [row for row in result["queries"] if row["difference"]]
    rows = changed if len(changed) <= 2 * count else [*changed[:count], *changed[-count:]]
    table = Table(title=f"largest gains and losses in {result['metric']}", title_justify="left")
    for name in ("query", "before", "after", "difference"):
        table.add_column(name, justify="left" if name == "query" else "right", overflow="fold")
    for row in rows:
        table.add_row(
            shown(row["query"]), *(f"{row[name]:.2f}" for name in ("before", "after")), f"{row['difference']:+.2f}"
        )
    console.print(table)


def _speed(result: Mapping[str, Any]) -> str:
    """Milliseconds of one query by stage, as far as queries went alone, and how many pairs were scored."""
    parts = [f"{stage} {row['median_ms']:.1f} (p95 {row['p95_ms']:.1f})" for stage, row in result["latency"].items()]
    speed = f"; ms a query: {', '.join(parts)}" if parts else ""
    counts = [f"{name} {count:,}" for name, count in result["pairs"].items()]
    return speed + (f"; pairs scored: {', '.join(counts)}" if counts else "")


def show_training(console: Console, result: Mapping[str, Any]) -> None:
    """Print the table of a `train-rerank` or `train-global` document: one row per epoch, the kept one in bold."""
    count = f"{result['anchors']} anchors" if "anchors" in result else f"{result['photos']} photos"
    caption = f"{result['validation_queries']} held-out queries, {count}, {result['seconds']} s"
    table = Table(title="Training", caption=_caption(caption, result), title_justify="left")
    names = list(result["history"][0])
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in result["history"]:
        kept = row["epoch"] == result["best"]["epoch"]
        cells = [str(row[name]) if name == "epoch" else f"{row[name]:.3f}" for name in names]
        table.add_row(*cells, style="bold" if kept else "")
    console.print(table)
    console.print(f"kept: epoch {result['best']['epoch']} in {result['checkpoint']}", highlight=False, markup=False)


def show_verification(console: Console, result: Mapping[str, Any]) -> None:
    """Print the table of a `verify` document: one row per kind of difference, with a few ids of each."""
    table = Table(title=shown(f"Index and store ({result['store']})"), title_justify="left")
    table.caption = f"{result['index_count']} vectors in the index, {result['store_count']} in the store"
    for heading in ("", "vectors"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_column("such as", overflow="fold")
    words = {"equal": "equal", "added": "missing in the store", "changed": "different", "removed": "only in the store"}
    for key, text in words.items():
        count = "not looked for" if result[key] is None else str(result[key])
        table.add_row(text, count, shown(", ".join(map(repr, result["examples"].get(key, ())))))
    for fingerprint, count in result["other_models"].items():
        table.add_row("of another model", str(count), fingerprint)
    for line in (*result["damaged"], *result["store_damaged"]):
        table.add_row("damaged", "", shown(line))
    console.print(table)
    if result["repaired"]:
        console.print("repaired: the store now equals the index")


def show_rows(console: Console, title: str, rows: Mapping[str, Any] | Sequence[tuple[str, Any]]) -> None:
    """Print names and values."""
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items() if isinstance(rows, Mapping) else rows:
        table.add_row(name, shown(str(value)))
    console.print(table)


def _caption(text: str, result: Mapping[str, Any]) -> str:
    weights = result["weights"]
    return f"{text} · {weights}" if weights.startswith("random") else text


def _short(path: str, root: Path | None) -> str:
    if root is not None and Path(path).is_relative_to(root):
        return Path(path).relative_to(root).as_posix()
    return path
