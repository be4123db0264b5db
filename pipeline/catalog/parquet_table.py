"""The columns of a Parquet file, or of a folder of them as Spark writes it, as texts batch by batch.

Below `table_reader`. A folder holds `part-*.parquet`, perhaps below `column=value` folders, whose values are texts.
Texts may be of any of Arrow's types for them, bytes are read as UTF-8; whole numbers become "7", also where pandas
stored them as floats; empty cells and NaN become "".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import RelookError

# The most bytes of one text, before it is repeated for every row that refers to it.
_MOST_BYTES = 4 * 4096
# Far beyond what fits a manifest; a Parquet file of some bytes can state any number.
_MOST_ROWS = 50_000_000
_ROWS_AT_ONCE = 8192
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def is_parquet_folder(folder: Path) -> bool:
    """Whether a folder is one table: called NAME.parquet, or with Spark's `_SUCCESS`, and with Parquet files in it."""
    named = folder.suffix.lower() == ".parquet" or (folder / "_SUCCESS").is_file()
    return folder.is_dir() and named and bool(_files_below(folder))


class ParquetTable:
    """An open table.

    Attributes:
        header: the names of its columns, those of `column=value` folders last.
    """

    def __init__(self, source: Path) -> None:
        """Open a Parquet file, or a folder of them.

        Raises:
            RelookError: it cannot be read, was not written to its end, or has two columns of one name.
        """
        self._source = source
        self._files = _files_below(source) if source.is_dir() else [source]
        if source.is_dir() and (source / "_temporary").exists() and not (source / "_SUCCESS").exists():
            raise RelookError(f"{source}: it has _temporary and no _SUCCESS: Spark has not written all of it")
        with _reading(self._files[0]):
            names = pq.read_schema(self._files[0]).names
        self.header: Sequence[str] = [*names, *_partition(source, self._files[0])]
        for place, name in enumerate(self.header):
            if name in self.header[:place]:
                raise RelookError(f"{source}: duplicate column {name!r}; rename or remove one")

    def rows(self, texts: Mapping[str, bool]) -> Iterator[tuple[Path, int, tuple[Any, ...]]]:
        """Rows of some columns.

        Args:
            texts: names of `header`, and whether the column's cells become texts; others stay as they are.

        Yields:
            The file, the number of the row in it, from 1, and its cells in the order of `texts`.

        Raises:
            RelookError: a file is damaged, or lacks a column that another one has; a column holds something else than
                texts and numbers, or texts in one file and numbers in another; a text is too long.
        """
        kinds: dict[str, tuple[str, Path]] = {}
        total = 0
        for file in self._files:
            partition = _partition(self._source, file)
            stored = [name for name in texts if name not in partition]
            number = 0
            with _reading(file), _open(file, stored) as table:
                total += table.metadata.num_rows
                if total > _MOST_ROWS:
                    raise RelookError(f"{self._source}: {total:,} rows, more than the {_MOST_ROWS:,} allowed")
                self._check_columns(table.schema_arrow, [name for name in stored if texts[name]], file, kinds)
                for batch in table.iter_batches(_ROWS_AT_ONCE, columns=stored):
                    columns = [
                        [partition[name]] * len(batch)
                        if name in partition
                        else (_texts(batch.column(name), name, file) if as_text else batch.column(name).to_pylist())
                        for name, as_text in texts.items()
                    ]
                    for place, row in enumerate(zip(*columns, strict=True), start=number + 1):
                        yield file, place, row
                    number += len(batch)

    def _check_columns(
        self, schema: pa.Schema, names: Sequence[str], file: Path, kinds: dict[str, tuple[str, Path]]
    ) -> None:
        """Refuse a column that holds neither texts nor numbers, or texts here and numbers in a file before."""
        for name in names:
            if name not in schema.names:
                raise RelookError(f"{file}: has no column {name!r}, which {self._files[0].name} has")
            kind = _kind(schema.field(name).type)
            if kind is None:
                raise RelookError(
                    f"{file}: column {name!r} holds no texts but {schema.field(name).type}; write it as text"
                )
            before, where = kinds.setdefault(name, (kind, file))
            if kind and before and kind != before:
                raise RelookError(
                    f"{file}: column {name!r} holds {kind}, and {before} in {where.name}; write it as text in all files"
                )
            if not before:
                kinds[name] = (kind, file)


@contextmanager
def _open(file: Path, columns: Sequence[str]) -> Iterator[pq.ParquetFile]:
    """Kept as dictionaries, a text that a million rows have is in memory once."""
    schema = pq.read_schema(file)
    texts = [name for name in columns if name in schema.names and pa.types.is_string(schema.field(name).type)]
    with pq.ParquetFile(file, read_dictionary=texts) as table:
        yield table


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: a text that is not UTF-8
        raise RelookError(f"{file}: cannot be read as Parquet ({' '.join(str(error).split())})") from None


def _files_below(folder: Path) -> list[Path]:
    """The Parquet files of a folder in the order of their names; those that begin with _ or . are Spark's own."""
    found = []
    for file in sorted(folder.rglob("*")):
        parts = file.relative_to(folder).parts
        if file.suffix.lower() == ".parquet" and not any(part[0] in "._" for part in parts) and file.is_file():
            found.append(file)
    return found


def _partition(source: Path, file: Path) -> dict[str, str]:
    """The columns whose value is in the names of the folders between `source` and `file`."""
    if file == source:
        return {}
    pairs = (part.partition("=") for part in file.relative_to(source).parent.parts)
    values = {unquote(key): unquote(value) for key, equals, value in pairs if equals}
    return {key: "" if value == _NO_VALUE else value for key, value in values.items()}


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    views = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return bool(views or types.is_fixed_size_binary(kind))


def _kind(kind: pa.DataType) -> str | None:
    """What a column holds, "" for nothing but empty cells, None for what is not read as text."""
    if pa.types.is_dictionary(kind):
        return _kind(kind.value_type)
    if pa.types.is_null(kind):
        return ""
    if _is_text(kind) or _is_bytes(kind):
        return "texts"
    if pa.types.is_boolean(kind):
        return "booleans"
    return "numbers" if pa.types.is_integer(kind) or pa.types.is_floating(kind) else None


def _texts(column: pa.Array, name: str, file: Path) -> list[str]:
    """The cells of a column as texts; equal ones of a dictionary are one object."""
    if pa.types.is_dictionary(column.type):
        if len(column.dictionary) > len(column):  # it is that of more rows than these
            _refuse_long(column.dictionary, name, file)
            return _texts(column.dictionary_decode(), name, file)
        words = _texts(column.dictionary, name, file)
        return ["" if index is None else words[index] for index in column.indices.to_pylist()]
    if _is_bytes(column.type):
        if pa.types.is_fixed_size_binary(column.type):
            column = column.cast(pa.binary())
        try:
            column = column.cast(pa.string())
        except pa.ArrowException:
            raise RelookError(f"{file}: column {name!r} holds bytes that are not UTF-8; write it as text") from None
    if _is_text(column.type):
        _refuse_long(column, name, file)
        return [text or "" for text in column.to_pylist()]
    return [_number_text(value) for value in column.to_pylist()]


def _refuse_long(column: pa.Array, name: str, file: Path) -> None:
    if not _is_text(column.type):
        return
    longest = pc.max(pc.binary_length(column.cast(pa.large_string()))).as_py() or 0
    if longest > _MOST_BYTES:
        raise RelookError(f"{file}: a text of {longest:,} bytes in column {name!r} is too long")


def _number_text(value: float | bool | None) -> str:
    """Whole numbers beside empty cells are stored as floats by pandas: 7.0 is written as "7", NaN as ""."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)
