"""Where each image lies: the part and the row of every id of a generation.

Below `directory.py`, shared by all that is read by id: records, local descriptors, feature maps. Ids are columns of
text, 34 MB for a million; a dictionary of tuples would take ten times as much.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.stores.index.manifest import Part
from pipeline.stores.index.part_ids import PartIds

Numbers = npt.NDArray[np.intp]


class ImageRows:
    """The places of the images of one generation; deleted rows have none.

    Args:
        parts: those that have a catalog.
        ids: theirs.
    """

    def __init__(self, parts: Sequence[Part], ids: PartIds) -> None:
        self.parts, self._ids = tuple(parts), ids
        self._first = np.cumsum([0, *(part.rows - len(part.deleted) for part in parts)])
        self._has_deleted = np.array([bool(part.deleted) for part in parts], np.bool_)

    def __len__(self) -> int:
        return len(self._ids)

    def find(self, ids: Sequence[str]) -> tuple[Numbers, Numbers]:
        """For each id the number of its part in `parts` and its row in that part's files; -1 and -1 where unknown."""
        places = self._ids.rows_of(ids)
        known = places >= 0
        part_of = np.where(known, np.searchsorted(self._first, places, side="right") - 1, -1)
        rows = np.where(known, places - self._first[part_of], -1)
        found = part_of[known]
        for number in np.unique(found[self._has_deleted[found]]).tolist():
            living = np.setdiff1d(np.arange(self.parts[number].rows), self.parts[number].deleted)
            mine = part_of == number
            rows[mine] = living[rows[mine]]
        return part_of, rows
