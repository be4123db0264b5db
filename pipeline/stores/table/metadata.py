"""What the rows of a generation's globals table say beside ids and vectors, and which rows pass a filter.

Below `store.py`. Read when the first filter or `read` needs it, and kept as columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pajson

from pipeline.errors import RelookError
from pipeline.stores.index.arrow_rows import arrow_rows
from pipeline.stores.index.directory import Index
from pipeline.stores.index.manifest import Part

# Bytes of metadata that are parsed at once; no row may be longer.
_BLOCK = 16 << 20


class TableMetadata:
    """The metadata of N rows, in the order of `Index.vector_rows`.

    Args:
        index: the generation.
    """

    def __init__(self, index: Index) -> None:
        self._index, self._count = index, len(index.vector_rows)

    def at(self, rows: npt.NDArray[np.integer[Any]]) -> list[dict[str, str]]:
        """The metadata of some rows."""
        texts = self._texts.take(arrow_rows(rows)).to_pylist()
        return [json.loads(text) for text in texts]

    def matching(self, where: Mapping[str, Sequence[str]]) -> npt.NDArray[np.intp]:
        """Rows, ascending, whose metadata has one of the values under each key; a missing key counts as ""."""
        kept = np.ones(self._count, np.bool_)
        for key, values in where.items():
            words, codes = self._words(key)
            kept &= np.isin(codes, [words[value] for value in values if value in words])
        return np.flatnonzero(kept)

    def _words(self, key: str) -> tuple[dict[str, int], npt.NDArray[np.int32]]:
        """The values that a key of the metadata has, numbered, and the number of every row's."""
        if key not in self._coded:
            coded = self._column(key).dictionary_encode().unify_dictionaries()
            words = coded.chunk(0).dictionary.to_pylist() if self._count else []
            codes = np.concatenate([np.zeros(0, np.int32), *(chunk.indices.to_numpy() for chunk in coded.chunks)])
            self._coded[key] = ({word: number for number, word in enumerate(words)}, codes)
        return self._coded[key]

    def _column(self, key: str) -> pa.ChunkedArray:
        """What every row's metadata says under a key, as text; "" where it says nothing."""
        if not self._count:
            return pa.chunked_array([], pa.string())
        lines = "\n".join(self._texts.to_pylist()).encode()
        wanted = pajson.ParseOptions(pa.schema([(key, pa.string())]), unexpected_field_behavior="ignore")
        try:
            found = pajson.read_json(pa.BufferReader(lines), pajson.ReadOptions(block_size=_BLOCK), wanted)[key]
        except pa.ArrowInvalid as error:
            raise RelookError(
                f"{self._index.directory}: metadata that cannot be filtered by {key!r} ({error})"
            ) from None
        if len(found) != self._count:
            raise RelookError(f"{self._index.directory}: metadata that is no JSON object of one line a row")
        return pc.fill_null(found, "")

    @cached_property
    def _coded(self) -> dict[str, tuple[dict[str, int], npt.NDArray[np.int32]]]:
        return {}

    @cached_property
    def _texts(self) -> pa.ChunkedArray:
        """JSON texts, row by row as the ids."""
        parts: list[Part] = [part for part in self._index.manifest.parts if "globals" in part.files]
        return pa.chunked_array([chunk for part in parts for chunk in self._index.metadata_of(part)], pa.string())
