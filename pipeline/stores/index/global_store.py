"""Global descriptors of single images, read from the index's parts on demand.

For rerankers and training where the vectors are searched elsewhere: a service would have to send them, and holding all
of them in memory is what it was chosen to avoid.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import RelookError
from pipeline.stores.index.directory import Index
from pipeline.types import FloatArray


class GlobalStore:
    """Reads global descriptors by image id; only ids stay in memory.

    Args:
        index: the generation.
    """

    def __init__(self, index: Index) -> None:
        self._index = index

    @property
    def complete(self) -> bool:
        """Whether the files are there; an index whose vectors lie in a service may do without."""
        return all(
            (self._index.directory / part.files["globals"].path).is_file() for part in self._index.manifest.parts
        )

    def read(self, ids: Sequence[str]) -> FloatArray:
        """[N, D] float32 in the order of `ids`. Raises RelookError that names an id which is not there."""
        rows = self._index.vector_ids.rows_of(ids)
        if (rows < 0).any():
            raise RelookError(f"{self._index.directory}: holds no id {ids[int(rows.argmin())]!r}")
        return self._index.vector_rows[rows]
