"""The page of `compare`: the tests and plots, then the queries that lost and gained most, with their first results.

Written by `compare --html`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.report.figures.comparison import comparison_plots
from pipeline.report.pages.page import write_page
from pipeline.report.pages.pictures import Pictures

# Queries that are shown of losses and of gains, and results of each.
_EACH = 15
_RESULTS = 6


def write_comparison(path: Path, comparison: Mapping[str, Any]) -> None:
    """Write the page of a `compare` document.

    Raises:
        RelookError: the page cannot be written.
    """
    changed = [row for row in comparison["queries"] if row["difference"]]
    losses = [row for row in reversed(changed) if row["difference"] < 0][:_EACH]
    gains = [row for row in changed if row["difference"] > 0][:_EACH]
    sections = (("Losses", losses), ("Gains", gains))
    pictures = Pictures(path, (len(losses) + len(gains)) * (1 + 2 * _RESULTS))
    plots = comparison_plots(comparison)
    write_page(path, "comparison", pictures, comparison=comparison, plots=plots, sections=sections, shown=_RESULTS)
