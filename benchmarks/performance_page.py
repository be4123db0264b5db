"""docs/performance.md and its plot, from the figures in benchmarks/results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE, PLOT = ROOT / "docs" / "performance.md", ROOT / "docs" / "growth.svg"

HEAD = """\
# Performance

Measured claims in one table per script: before, after, and what the machine allows.

    python -m benchmarks
    python -m benchmarks --page

The first command measures and writes this page; the second writes it from the figures in `benchmarks/results`. What
each figure means is in the head of its script ([scripts](../benchmarks/README.md)); [speed.md](speed.md) says where the
differences come from.

"Before" is what the last column names. It was measured by turns with "after" in one run, and so was the limit: more
than 100 % of it is noise of other work. The least of some runs counts. CPU seconds are those of all threads: other work
on the machine changes them less than it changes the clock.
"""


def write_page(names: Sequence[str]) -> None:
    """Write the page from the results that are there, in this order."""
    found = {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in names if _file(name).is_file()}
    parts = [HEAD]
    for name, document in found.items():
        machine = document["machine"]
        load = f"{machine['cores']} cores, load {machine['load']:.0f} when it ended"
        parts.append(f"\n## {name.replace('-', ' ').capitalize()}\n\nOn {load}.\n\n{_table(document['claims'])}")
        if "exponents" in document:
            parts.append(_growth(document))
    PAGE.write_text("".join(parts), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)} from {', '.join(found)}")


def _file(name: str) -> Path:
    return RESULTS / f"{name}.json"


def _table(claims: Sequence[dict[str, Any]]) -> str:
    rows = [
        "| claim | unit | before | after | ratio | limit | of the limit | before is |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for claim in claims:
        before, after, limit = claim["before"], claim["after"], claim["limit"]
        ratio = "" if before is None else f"{before / after:.2f}"
        share = "" if limit is None else f"{limit / after:.0%}".replace("%", " %")
        cells = (
            claim["what"],
            claim["unit"],
            _number(before),
            _number(after),
            ratio,
            _number(limit),
            share,
            claim["beside"],
        )
        rows.append(f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |"))
    return "\n".join(rows) + "\n"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _growth(document: dict[str, Any]) -> str:
    """The exponents, and the plot of all curves."""
    _plot(document["curves"])
    lines = ["\n| cost ~ images^e | e between the two largest sizes |", "|---|---|"]
    lines += [f"| {name} | {value:.2f} |" for name, value in document["exponents"].items()]
    lines.append("\nStart-up is in the seconds of verbs, so their exponents are low while it weighs.")
    return "\n".join(lines) + f"\n\n![CPU seconds by the number of images]({PLOT.name})\n"


def _plot(curves: dict[str, Sequence[tuple[int, float]]]) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    # Equal figures give an equal file.
    with mpl.rc_context({"svg.hashsalt": "relook", "font.size": 10}):
        figure, axes = pyplot.subplots(figsize=(6.5, 4))
        for name, points in curves.items():
            sizes, seconds = zip(*points, strict=True)
            axes.loglog(sizes, seconds, marker="o", label=name)
        axes.set(xlabel="images", ylabel="CPU seconds")
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0)
        figure.savefig(PLOT, bbox_inches="tight", metadata={"Date": None})
        pyplot.close(figure)
