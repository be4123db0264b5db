"""Pages with the pictures: each query beside its results; and how two evaluations differ.

Written by `search --html`, `compare --html` and the demo. Files without scripts or outside links: small pictures are
part of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from pipeline.errors import ImageError
from pipeline.files import write_bytes, write_errors
from pipeline.imaging import data_address, read_image, thumbnail
from pipeline.report.match_picture import MatchedPoints, draw_effects, draw_matches

# Queries of a comparison that are shown of losses and gains, and results of each.
_EACH = 15
_ANSWERS = 6
# Groups of duplicates on a page, and photos of each.
_GROUPS = 200
_MEMBERS = 24
# Longer side of each photo of an explanation, in pixels.
_REASON_SIDE = 420


def write_page(path: Path, search: Mapping[str, Any], evaluation: Mapping[str, Any] | None = None) -> None:
    """Write the page.

    Args:
        path: the file, replaced if it is there.
        search: a `search` document.
        evaluation: an `evaluate` document to show above it, or None.

    Raises:
        RelookError: the file cannot be written.
    """
    _write(path, "search.html", search=search, evaluation=evaluation)


def write_comparison(path: Path, comparison: Mapping[str, Any]) -> None:
    """Write the page of a `compare` document: the tests, then the largest losses and gains with their first results.

    Raises:
        RelookError: the file cannot be written.
    """
    changed = [row for row in comparison["queries"] if row["difference"]]
    losses = [row for row in reversed(changed) if row["difference"] < 0][:_EACH]
    gains = [row for row in changed if row["difference"] > 0][:_EACH]
    sections = (("Losses", losses), ("Gains", gains))
    _write(path, "comparison.html", comparison=comparison, sections=sections, shown=_ANSWERS)


def write_duplicates(path: Path, duplicates: Mapping[str, Any]) -> None:
    """Write the page of a `duplicates` document: the largest groups with their first photos.

    Raises:
        RelookError: the file cannot be written.
    """
    _write(path, "duplicates.html", duplicates=duplicates, shown=_GROUPS, each=_MEMBERS)


def _write(path: Path, template: str, **values: Any) -> None:
    environment = Environment(loader=PackageLoader("pipeline.report"), autoescape=True, trim_blocks=True)
    environment.filters["picture"] = thumbnail
    environment.globals["reason_picture"] = _reason_picture
    text = environment.get_template(template).render(**values)
    with write_errors(path):
        write_bytes(path, text.encode())


def _reason_picture(query: str, image: str, reason: Mapping[str, Any]) -> str:
    """A picture of why, as a data address; empty where a photo cannot be read, or the reason is no place in it."""
    if "query" not in reason and "points" not in reason:
        return ""
    try:
        left, right = (read_image(Path(path)).pixels for path in (query, image))
    except ImageError:
        return ""
    if "points" in reason:
        return data_address(draw_matches(left, right, MatchedPoints.from_json(reason), _REASON_SIDE))
    return data_address(draw_effects(left, right, reason, _REASON_SIDE))
