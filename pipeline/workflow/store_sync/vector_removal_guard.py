"""Ids that only the store has: collected before anything is written, and refused where they are too many.

Below `sync.py` and `verify`. A second collection in the same namespace, or an index that was made from half a drive,
looks like vectors that have to be deleted; the guard is the one of `reindex` on disk, `reindex.max_removed`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator

from pipeline.errors import RelookError
from pipeline.types import VectorStore, is_hosted


class Removals:
    """Ids to delete, in a temporary file, so that memory does not grow with their number.

    Args:
        batches: the ids; read to the end at once, since a store must not be listed while it changes.

    Attributes:
        count: number of ids.
        first: the first of them; "" where there are none.
    """

    def __init__(self, batches: Iterable[list[str]]) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115 (closed on leaving)
        self.count, self.first = 0, ""
        for ids in batches:
            self.first = self.first if self.count else ids[0]
            self.count += len(ids)
            self._file.write(json.dumps(ids) + "\n")

    def __enter__(self) -> Removals:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[list[str]]:
        self._file.seek(0)
        return map(json.loads, self._file)

    def check(self, kind: str, store: VectorStore, count: int, max_removed: float) -> None:
        """Raises RelookError where these are more than the share `max_removed` of the store's `count` vectors."""
        if self.count <= max_removed * count:
            return
        setting = "collection" if is_hosted(store) else "directory"
        where = store.place() if is_hosted(store) else f"store {kind}"
        raise RelookError(
            f"{where}: {self.count} of {count} vectors are not in the index, the first is {self.first!r}; nothing was "
            f"written. Give this collection its own store.{kind}.{setting}, or delete them with: "
            "--set reindex.max_removed=1"
        )
