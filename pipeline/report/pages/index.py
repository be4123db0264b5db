"""The page of an index: what it holds, its largest groups of duplicates, images like no other, and failures.

Written by `info --html`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.report.inventory import info_rows
from pipeline.report.pages.page import write_page
from pipeline.report.pages.pictures import Pictures

# Groups of duplicates, photos of each, and failures that the page lists.
_GROUPS = 10
_MEMBERS = 8
_FAILURES = 500


def write_index_page(
    path: Path,
    info: Mapping[str, Any],
    duplicates: Mapping[str, Any] | None,
    outliers: Sequence[Mapping[str, Any]],
    failures: Sequence[Mapping[str, str]],
) -> None:
    """Write the page.

    Args:
        path: the file, replaced if it is there.
        info, duplicates: documents of these verbs; None: the index is empty.
        outliers: "id", "path", "label", "similarity" of each, the loneliest first.
        failures: "id" and "reason" of the images that the last run could not read.

    Raises:
        RelookError: the page cannot be written.
    """
    write_page(
        path,
        "index",
        Pictures(path, len(outliers) + _GROUPS * _MEMBERS),
        info=info,
        rows=list(info_rows(info)),
        duplicates=duplicates,
        groups=_GROUPS,
        members=_MEMBERS,
        outliers=outliers,
        failures=failures[:_FAILURES],
        all_failures=len(failures),
    )
