"""The files of an evaluation: everything as JSON, the values of each query as CSV, a page to read as Markdown.

Written by `evaluate --report DIR` from its report document; `evaluation.yaml` is the configuration, ready to be run
again.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.files import escape_formula, write_bytes, write_errors

_ROWS = {"global": "global search", "reranked": "re-ranked"}


def write_evaluation(folder: Path, report: Mapping[str, Any]) -> None:
    """Write `evaluation.json`, `.csv`, `.md` and `.yaml` into `folder`, replacing what is there.

    Raises:
        RelookError: a file cannot be written.
    """
    files = {
        "json": json.dumps(report, ensure_ascii=False, indent=1) + "\n",
        "csv": _csv(report),
        "md": _markdown(report),
        "yaml": yaml.safe_dump(report["configuration"], sort_keys=False, allow_unicode=True),
    }
    for ending, text in files.items():
        path = folder / f"evaluation.{ending}"
        with write_errors(path):
            write_bytes(path, text.encode())


def _csv(report: Mapping[str, Any]) -> str:
    """One row per query and ranking; metrics are fractions, empty where a query cannot be scored."""
    metrics = list(report["global"])
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["query", "ranking", *metrics])
    for row in report["per_query"]:
        for name in _ROWS:
            if row[name] is not None:
                writer.writerow([escape_formula(row["query"]), name, *(row[name][metric] for metric in metrics)])
    return stream.getvalue()


def _markdown(report: Mapping[str, Any]) -> str:
    split = f", split {report['split']}" if report["split"] else ""
    chain = " > ".join(report["rerank"]) or "none"
    lines = [
        f"# {report['dataset']}{split}: {report['protocol']}",
        "",
        f"{report['queries']:,} queries, gallery of {report['gallery']:,}; rerankers: {chain}. {_left_out(report)}",
        "",
        *_metrics(report),
        "",
        *_costs(report),
        "",
        *_provenance(report),
        "",
        "The configuration is in `evaluation.yaml`; the values of each query in `evaluation.csv`.",
    ]
    return "\n".join(lines) + "\n"


def _left_out(report: Mapping[str, Any]) -> str:
    counts = {
        "cannot be scored": report["unscored"],
        "ignored by the data set": report["ignored"],
        "photos could not be read": report["failed"],
    }
    words = [f"{count} {what}" for what, count in counts.items() if count]
    warning = f" **Weights: {report['weights']}; the metrics say nothing about quality.**" if _random(report) else ""
    return (f"Left out: {', '.join(words)}." if words else "Nothing was left out.") + warning


def _random(report: Mapping[str, Any]) -> bool:
    return bool(report["weights"].startswith("random"))


def _metrics(report: Mapping[str, Any]) -> list[str]:
    """A row per metric, the rankings side by side; the interval is that of the last ranking."""
    lines = ["| percent | global search | re-ranked | difference | 95 % interval |", "|---|---|---|---|---|"]
    for name, before in report["global"].items():
        after, change = "", ""
        if report["reranked"]:
            after = f"{report['reranked'][name]:.2f}"
            change = f"{report['difference'][name]:+.2f} ± {report['difference'][f'{name}_se']:.2f}"
        low, high = report["intervals"][name]
        lines.append(f"| {name} | {before:.2f} | {after} | {change} | {low:.2f} to {high:.2f} |")
    return lines


def _costs(report: Mapping[str, Any]) -> list[str]:
    lines = ["| stage | median ms a query | p95 ms | queries timed | seconds in all |", "|---|---|---|---|---|"]
    for stage, seconds in report["seconds"].items():
        one = report["latency"].get(stage)
        cells = f"{one['median_ms']:.2f} | {one['p95_ms']:.2f} | {one['queries']}" if one else " | | "
        lines.append(f"| {stage} | {cells} | {seconds:.2f} |")
    lines += ["", "| representation | bytes an image |", "|---|---|"]
    lines += [f"| {kind} | {size:,.0f} |" for kind, size in report["bytes_per_image"].items()]
    counts = ", ".join(f"{name} {count:,}" for name, count in report["pairs"].items())
    lines += ["", f"Pairs of a query and a candidate that were scored: {counts or 'none'}."]
    done = report["extraction"]
    if done:
        lines += ["", f"Extraction: {done['images']:,} images in {done['seconds']:,.1f} s, "]
        lines[-1] += f"{done['images_per_second']:.1f} images a second."
    return lines


def _provenance(report: Mapping[str, Any]) -> list[str]:
    known = report["provenance"]
    machine, index = known["machine"], known["index"]
    lines = [
        f"relook {known['relook']}, Python {known['python']}, "
        + ", ".join(f"{name} {version}" for name, version in known["libraries"].items())
        + f"; {machine['device']}: {machine['name']}, {machine['cores']} cores.",
        "",
        f"Index generation {index['generation']}, model {index['model']['name']} ({index['model']['weights']}), "
        f"fingerprint {index['fingerprint']}.",
    ]
    lines += [f"Checkpoint of {name}: sha256 {digest}." for name, digest in known["checkpoints"].items()]
    return lines
