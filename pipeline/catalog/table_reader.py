"""Tables that list images: CSV, TSV and Parquet behind one reader, which never changes or drops a row silently.

What manifests, labels files and queries in tables are read with. `strict_csv` and `parquet_table` read the formats,
`header_names` finds the columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from pipeline.catalog.header_names import KnownColumn, match_columns, recognised
from pipeline.catalog.parquet_table import ParquetTable, is_parquet_folder
from pipeline.catalog.strict_csv import StrictCsv
from pipeline.errors import RelookError

CSV_SUFFIXES = (".csv", ".tsv", ".txt")
SUFFIXES = (*CSV_SUFFIXES, ".parquet")

# The longest path that Linux opens; no id or label needs as much.
_MOST_CHARACTERS = 4096

Row = tuple[Path, int, tuple[Any, ...]]


def is_table(source: Path) -> bool:
    """Whether a path is a table by its name, or a folder of Parquet files as Spark writes it."""
    if source.is_dir():
        return is_parquet_folder(source)
    return source.suffix.lower() in SUFFIXES


def read_table(source: Path, known: Sequence[KnownColumn]) -> Iterator[Row]:
    """The rows of a table.

    Args:
        source: a file ending in one of `SUFFIXES`, or a folder of Parquet files.
        known: the columns to read. The log reports those that are taken under another name, and those that are not
            read.

    Yields:
        The file, the number of the row in it from 1 (its header and blank lines not counted), and the cells in the
        order of `known`: texts without surrounding space, "" where the table has no such column. A column that is no
        text may also hold what Parquet has.

    Raises:
        RelookError: the table cannot be read, its columns are missing or ambiguous, or a row is not well formed; the
            message names the file, the row, the column and the remedy.
    """
    is_parquet = source.is_dir() or source.suffix.lower() == ".parquet"
    rows = _parquet_rows(source, known) if is_parquet else _csv_rows(source, known)
    texts = [(place, column.name) for place, column in enumerate(known) if column.text]
    for file, number, cells in rows:
        for place, name in texts:
            if len(cells[place]) > _MOST_CHARACTERS:
                raise RelookError(
                    f"{file}, row {number}: the {name} has {len(cells[place]):,} characters, more than "
                    f"{_MOST_CHARACTERS:,}"
                )
        yield file, number, cells


def _csv_rows(source: Path, known: Sequence[KnownColumn]) -> Iterator[Row]:
    table = StrictCsv(source, lambda header: recognised(header, known))
    places = match_columns(table.header, known, source)
    absent = len(table.header)  # where each row gets an empty cell more
    wanted = [places.get(column.name, absent) for column in known]
    pick = itemgetter(*wanted, absent)  # one more, so that it returns a tuple also for one column
    for cells in table:
        cells.append("")
        yield source, table.number, tuple([text.strip() for text in pick(cells)[:-1]])


def _parquet_rows(source: Path, known: Sequence[KnownColumn]) -> Iterator[Row]:
    table = ParquetTable(source)
    places = match_columns(table.header, known, source)
    present = [column for column in known if column.name in places]
    wanted = {table.header[places[column.name]]: column.text for column in present}
    rows = {column.name: row for row, column in enumerate(present)}
    pick = itemgetter(*(rows.get(column.name, len(present)) for column in known), len(present))
    for file, number, cells in table.rows(wanted):
        values = pick((*cells, ""))[:-1]
        yield file, number, tuple([value.strip() if isinstance(value, str) else value for value in values])
