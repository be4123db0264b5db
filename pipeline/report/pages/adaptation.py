"""The page of `adapt`: groups of photos that taught, the most doubtful first, for a person to look at.

Written by `adapt --html`. Below each photo is its id, as the veto file takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.report.adaptation import adaptation_outcome, adaptation_rows
from pipeline.report.pages.page import write_page
from pipeline.report.pages.pictures import Pictures

# Groups on the page, and photos of each.
_GROUPS = 100
_MEMBERS = 16


def write_adaptation(path: Path, document: Mapping[str, Any]) -> None:
    """Write the page of an `adapt` document.

    Raises:
        RelookError: the page cannot be written.
    """
    shown = document["groups"][:_GROUPS]
    write_page(
        path,
        "adaptation",
        Pictures(path, sum(min(len(group["members"]), _MEMBERS) for group in shown)),
        document=document,
        rows=adaptation_rows(document["found"]),
        outcome=adaptation_outcome(document),
        groups=shown,
        each=_MEMBERS,
    )
