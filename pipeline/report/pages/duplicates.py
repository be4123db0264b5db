"""The page of `duplicates`: the largest groups of equal and nearly equal photos.

Written by `duplicates --html`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.report.pages.page import write_page
from pipeline.report.pages.pictures import Pictures

# Groups on the page, and photos of each.
_GROUPS = 200
_MEMBERS = 24


def write_duplicates(path: Path, duplicates: Mapping[str, Any]) -> None:
    """Write the page of a `duplicates` document: the largest groups with their first photos.

    Raises:
        RelookError: the page cannot be written.
    """
    count = sum(min(len(group["members"]), _MEMBERS) for group in duplicates["groups"][:_GROUPS])
    write_page(path, "duplicates", Pictures(path, count), duplicates=duplicates, shown=_GROUPS, each=_MEMBERS)
