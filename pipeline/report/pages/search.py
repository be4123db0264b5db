"""The page of a search: each query beside its results, and why each was found.

Written by `search --html` and the demo.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.errors import ImageError
from pipeline.files import located
from pipeline.report.pages.page import write_page
from pipeline.report.pages.pictures import Pictures

# Longer side of each photo of an explanation, in pixels.
_REASON_SIDE = 420


def write_search(path: Path, search: Mapping[str, Any], evaluations: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write the page.

    Args:
        path: the file, replaced if it is there. With many pictures they are in the folder `NAME_files` beside it.
        search: a `search` document.
        evaluations: `evaluate` documents of the same queries, one per chain of rerankers, to show above the results.

    Raises:
        RelookError: the page cannot be written.
    """
    results = [hit for query in search["queries"] for hit in query["results"]]
    reasons = sum(len(hit.get("explanation", ())) for hit in results)
    pictures = Pictures(path, len(search["queries"]) + len(results) + reasons)
    write_page(
        path,
        "search",
        pictures,
        search=search,
        evaluations=evaluations,
        labelled=any(query.get("label") for query in search["queries"]),
        reason_picture=partial(_reason_picture, pictures),
    )


def _reason_picture(pictures: Pictures, query: str, image: str, reason: Mapping[str, Any]) -> str:
    """The address of a picture of why; "" where a photo cannot be read, or the reason is no place in it."""
    if not query or ("query" not in reason and "points" not in reason):
        return ""
    from pipeline.imaging import jpeg_bytes, read_image
    from pipeline.report.match_picture import MatchedPoints, draw_effects, draw_matches

    try:
        left, right = (read_image(located(path)).pixels for path in (query, image))
    except ImageError:
        return ""
    if "points" in reason:
        drawn = draw_matches(left, right, MatchedPoints.from_json(reason), _REASON_SIDE)
    else:
        drawn = draw_effects(left, right, reason, _REASON_SIDE)
    return pictures.picture(jpeg_bytes(drawn))
