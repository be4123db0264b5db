"""When the inverted lists of the local ann store are trained, extended and measured.

Called by `store.py` after every change, in the one process that has the store's lock. New vectors wait until there are
enough of them for a segment; segments merge as in a log-structured tree (O'Neil et al., 1996), so that a million
vectors lie in a handful of them. Each step writes new files, then commits them: a kill leaves the old lists or the new.
"""

from __future__ import annotations

import re
import secrets
from contextlib import suppress

import numpy as np

from pipeline.files import TEMPORARY
from pipeline.stores.ann.lists import POINTS, ListsState, Segment, fill, lists_for, merge, read, train, write
from pipeline.stores.ann.recall import measured
from pipeline.stores.ann.records import RecordDatabase, Rows
from pipeline.types import FloatArray

# New vectors wait for a segment until they are this share of all.
_SHARE = 1 / 128
# The lists are trained again when the number of vectors, or of the probes that they need, has grown by this factor:
# many more probes mean that vectors of another kind were added.
_GROWTH = 4
_DRIFT = 4
# The recall is measured again when the store has grown by this factor.
_UNMEASURED = 1.25
# The lists are rebuilt when this share of their rows is dead.
_DEAD = 0.3

_NAME = r"(model|lists)-[0-9a-f]{8}\.faiss"


class ListMaintenance:
    """Keeps the lists of `records` in step with them.

    Args:
        records: of the store.
        flat_below: below this number of vectors there are no lists: all vectors are compared.
        recall: share of the 100 nearest that the lists must find in a sample.
    """

    def __init__(self, records: RecordDatabase, flat_below: int, recall: float) -> None:
        self._records, self._flat_below, self._recall = records, flat_below, recall
        self._folder = records.path.parent

    def run(self) -> None:
        """Train, extend or measure the lists if that is due."""
        state, count = self._records.state(), self._records.count()
        waiting, dead = self._records.rows(state.covered + 1), self._records.dead()
        worn = len(dead) > _DEAD * state.listed
        if not worn and len(waiting) < max(self._flat_below, int(count * _SHARE)):
            return
        if worn or state.model is None or count > _GROWTH * state.trained:
            state = self._measured(self._rebuilt(count))
        else:
            state = self._extended(state, waiting, dead)
            if count > _UNMEASURED * state.measured:
                before, state = state, self._measured(state)
                if state.probes[0] > _DRIFT * before.probes[0]:
                    state = self._measured(self._rebuilt(count))
        self._records.replace_lists(state)
        self.collect()

    def rebuild(self) -> None:
        """Train and write all lists from the records, whatever is left of the present ones."""
        self._records.replace_lists(self._measured(self._rebuilt(self._records.count())))
        self.collect()

    def collect(self) -> None:
        """Remove list files that the state does not name, such as those of a killed process."""
        kept = {file.name for file in self._records.state().files}
        for path in self._folder.glob("*.faiss*"):
            ours = re.fullmatch(rf"{_NAME}(\.\d+{re.escape(TEMPORARY)})?", path.name)
            if ours and path.name not in kept:
                with suppress(FileNotFoundError):
                    path.unlink()

    def _measured(self, state: ListsState) -> ListsState:
        return measured(self._records, state, self._recall) if state.segments else state

    def _rebuilt(self, count: int) -> ListsState:
        """Lists trained on the present vectors, with all of them in one segment."""
        rows = self._records.rows()
        if len(rows) < self._flat_below:
            return ListsState()
        lists = train(self._sample(rows, POINTS * lists_for(count)), count)
        model = write(self._folder, _new_name("model"), lists)
        segment = self._write(fill(lists, self._records.stream()), rows[0], rows[-1])
        return ListsState(model=model, segments=(segment,), trained=count, lists=int(lists.nlist))

    def _extended(self, state: ListsState, waiting: Rows, dead: Rows) -> ListsState:
        """The waiting rows in a new segment, merged with those segments before it that are not much larger."""
        assert state.model is not None
        first, size = waiting[0], len(waiting)
        segments, merged = list(state.segments), []
        while segments and segments[-1].rows < 2 * size:
            merged.append(segments.pop())
            first, size = merged[-1].first, size + merged[-1].rows
        lists = fill(read(self._folder, state.model), self._records.stream(int(waiting[0])))
        lists = merge(lists, self._folder, merged, dead[dead >= first])
        segment = self._write(lists, first, waiting[-1])
        return state.model_copy(update={"segments": (*segments, segment)})

    def _write(self, lists: object, first: int, last: int) -> Segment:
        file = write(self._folder, _new_name("lists"), lists)
        return Segment(file=file, first=int(first), last=int(last), rows=int(lists.ntotal))  # type: ignore[attr-defined]

    def _sample(self, rows: Rows, size: int) -> FloatArray:
        if size < len(rows):
            rows = np.sort(np.random.default_rng(0).choice(rows, size, replace=False))
        return self._records.vectors(rows)


def _new_name(kind: str) -> str:
    return f"{kind}-{secrets.token_hex(4)}.faiss"
