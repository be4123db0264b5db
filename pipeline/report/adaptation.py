"""The tables of `adapt` in the terminal: what was found, and what was tried on groups that were held out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.report.cells import shown


def show_adaptation(console: Console, document: Mapping[str, Any]) -> None:
    """Print an `adapt` document."""
    table = Table(title=shown(f"found in {document['index']}"), show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    for name, count in adaptation_rows(document["found"]):
        table.add_row(name, f"{count:,}")
    console.print(table)
    table = Table(title="mAP of what was held out", title_justify="left")
    for heading in ("map", "photos", "groups", "gain", "separation", "settings"):
        table.add_column(heading, justify="left" if heading in ("map", "settings") else "right")
    for trial in document["trials"]:
        gain = f"{trial['gain']:+.2f} ±{trial['error']:.2f}" if trial["settings"] else ""
        settings = ", ".join(f"{key} {value:g}" for key, value in trial["settings"].items())
        style = "bold" if trial["taken"] else ""
        scores = (f"{trial['photos']:.2f}", f"{trial['groups']:.2f}")
        table.add_row(trial["name"], *scores, gain, f"{trial['separation']:.2f}", settings, style=style)
    console.print(table)
    console.print(adaptation_outcome(document), highlight=False, markup=False, soft_wrap=True)


def adaptation_rows(found: Mapping[str, int]) -> list[tuple[str, int]]:
    """The counts of an `adapt` document, in words."""
    words = {
        "images": "images",
        "duplicates": "near duplicates, which count as one",
        "candidates": "pairs that were matched",
        "known": "of them by earlier runs",
        "answered": "pairs that a person answered",
        "degenerate": "left out: points on a line or on one spot",
        "cut": "left out: contradicted by other pairs",
        "disagree": "near, but nothing agrees",
        "pairs": "verified pairs",
        "groups": "groups",
        "in groups": "photos in groups",
        "vetoed": "groups refused by the veto file",
    }
    return [(text, found[key]) for key, text in words.items()]


def adaptation_outcome(document: Mapping[str, Any]) -> str:
    """What was written, and how it is used; or why nothing was."""
    if document["checkpoint"] is None:
        return "nothing was written: no map is better on what was held out than the descriptors as they are"
    return f"written: {document['checkpoint']}; use it with --set describe.checkpoint={document['checkpoint']}"
