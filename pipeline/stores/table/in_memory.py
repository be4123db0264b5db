"""The globals of one generation, held in memory as three columns: ids, vectors, and metadata once somebody asks.

Below `table_store.py`. Parts are read side by side, straight into the rows of one array, so that opening never takes
much more memory than the vectors themselves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pajson

from pipeline.errors import RelookError
from pipeline.stores.index.directory import Index
from pipeline.stores.index.id_column import IdColumn
from pipeline.stores.index.manifest import Part

Precision = Literal["float32", "float16"]

# Bytes of metadata that are parsed at once; no row may be longer.
_BLOCK = 16 << 20


class InMemoryGlobals:
    """What a table store searches.

    Args:
        index: the generation.
        precision: of the vectors in memory; float16 halves them and rounds each value to 11 bits.

    Attributes:
        ids: N of them, in the order of the parts.
        vectors: [N, D], row by row as the ids.
    """

    def __init__(self, index: Index, precision: Precision = "float32") -> None:
        self._index = index
        parts = [part for part in index.manifest.parts if "globals" in part.files]
        first = np.cumsum([0, *(part.rows - len(part.deleted) for part in parts)])
        self.vectors: npt.NDArray[np.floating[Any]] = np.empty((first[-1], index.card.dimension), precision)

        def fill(number: int) -> list[pa.Array]:
            row, names = int(first[number]), []
            for ids, vectors in index.stream_globals(parts[number]):
                self.vectors[row : row + len(ids)] = vectors
                row += len(ids)
                names.append(ids)
            return names

        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="read") as pool:
            self.ids = IdColumn([chunk for names in pool.map(fill, range(len(parts))) for chunk in names])
        pa.default_memory_pool().release_unused()

    def metadata(self, rows: npt.NDArray[np.integer[Any]]) -> list[dict[str, str]]:
        """The metadata of some rows."""
        texts = self._metadata.take(pa.array(rows)).to_pylist()
        return [json.loads(text) for text in texts]

    def matching(self, where: Mapping[str, Sequence[str]]) -> npt.NDArray[np.intp]:
        """Rows, ascending, whose metadata has one of the values under each key; a missing key counts as ""."""
        kept = np.ones(len(self.ids), np.bool_)
        for key, values in where.items():
            words, codes = self._words(key)
            kept &= np.isin(codes, [words[value] for value in values if value in words])
        return np.flatnonzero(kept)

    def _words(self, key: str) -> tuple[dict[str, int], npt.NDArray[np.int32]]:
        """The values that a key of the metadata has, numbered, and the number of every row's."""
        if key not in self._coded:
            coded = self._column(key).dictionary_encode().unify_dictionaries()
            words = coded.chunk(0).dictionary.to_pylist() if len(self.ids) else []
            codes = np.concatenate([np.zeros(0, np.int32), *(chunk.indices.to_numpy() for chunk in coded.chunks)])
            self._coded[key] = ({word: number for number, word in enumerate(words)}, codes)
        return self._coded[key]

    def _column(self, key: str) -> pa.ChunkedArray:
        """What every row's metadata says under a key, as text; "" where it says nothing."""
        if not len(self.ids):
            return pa.chunked_array([], pa.string())
        lines = "\n".join(self._metadata.to_pylist()).encode()
        wanted = pajson.ParseOptions(pa.schema([(key, pa.string())]), unexpected_field_behavior="ignore")
        try:
            found = pajson.read_json(pa.BufferReader(lines), pajson.ReadOptions(block_size=_BLOCK), wanted)[key]
        except pa.ArrowInvalid as error:
            raise RelookError(
                f"{self._index.directory}: metadata that cannot be filtered by {key!r} ({error})"
            ) from None
        if len(found) != len(self.ids):
            raise RelookError(f"{self._index.directory}: metadata that is no JSON object of one line a row")
        return pc.fill_null(found, "")

    @cached_property
    def _coded(self) -> dict[str, tuple[dict[str, int], npt.NDArray[np.int32]]]:
        return {}

    @cached_property
    def _metadata(self) -> pa.ChunkedArray:
        """JSON texts, row by row as the ids."""
        parts: list[Part] = [part for part in self._index.manifest.parts if "globals" in part.files]
        return pa.chunked_array([chunk for part in parts for chunk in self._index.metadata_of(part)], pa.string())
