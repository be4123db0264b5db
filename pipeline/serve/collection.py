"""What the page shows of a collection, and filters by folder and by text in the path.

Reads the catalog of a generation once. Stores filter by whole values: a folder or a text becomes the paths that match.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.workflow.opened_index import OpenedIndex

# Values of a filter that the page offers; the most frequent ones where there are more.
_OFFERED = 500


class Collection:
    """The catalog of a generation.

    Attributes:
        labels, splits, folders: (value, number of images) each, the most frequent first, 500 at most.
    """

    def __init__(self, gallery: OpenedIndex) -> None:
        table = gallery.index.catalog().select(["id", "path", "label", "split", "width", "height"])
        self._table = table.combine_chunks()
        self._folders = _folder_of(self._table["path"])
        self.labels = _counted(self._table["label"])
        self.splits = _counted(self._table["split"])
        self.folders = _counted(self._folders)

    def paths(self, text: str, folder: str) -> list[str] | None:
        """The paths that have this text in them and lie in or below this folder; None where neither is given."""
        if not text and not folder:
            return None
        found: list[str] = self._table["path"].filter(self._matching(text, folder, (), ())).to_pylist()
        return found

    def page(
        self, text: str, folder: str, labels: Sequence[str], splits: Sequence[str], offset: int, limit: int
    ) -> tuple[int, list[dict[str, Any]]]:
        """How many images match, and some of them, with the keys id, path, label, split, width and height."""
        found = self._table
        if text or folder or labels or splits:
            found = found.filter(self._matching(text, folder, labels, splits))
        rows: list[dict[str, Any]] = found.slice(offset, limit).to_pylist()
        return len(found), rows

    def _matching(self, text: str, folder: str, labels: Sequence[str], splits: Sequence[str]) -> pa.ChunkedArray:
        kept = pa.chunked_array([pa.array([True] * len(self._table), pa.bool_())])
        if text:
            kept = pc.and_(kept, pc.match_substring(self._table["path"], text, ignore_case=True))
        if folder:
            below = pc.starts_with(self._table["path"], folder.rstrip("/") + "/")
            kept = pc.and_(kept, below)
        for column, values in (("label", labels), ("split", splits)):
            if values:
                kept = pc.and_(kept, pc.is_in(self._table[column], pa.array(list(values), pa.string())))
        return kept


def _folder_of(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """What is before the last slash of each path; "" where there is none."""
    return pc.replace_substring_regex(pc.if_else(pc.match_substring(paths, "/"), paths, ""), r"/[^/]*$", "")


def _counted(values: pa.ChunkedArray) -> list[tuple[str, int]]:
    """Values that are not empty, and how often each occurs."""
    counts = [(one["values"], one["counts"]) for one in pc.value_counts(values).to_pylist() if one["values"]]
    return sorted(counts, key=lambda one: (-one[1], one[0]))[:_OFFERED]
