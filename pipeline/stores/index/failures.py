"""The list of images that the last extraction could not read, `failures.parquet` or `failures.csv` of an index.

Written by the writer of an index, for people: the CSV is safe to open in a spreadsheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.files import atomic_path, escape_formula, unescape_formula, write_errors
from pipeline.stores.index.tables import FAILURES_SCHEMA, read_table, write_table


def write_failures(path: Path, failures: Sequence[tuple[str, str, str]]) -> None:
    """Write (id, path, reason) of each image, replacing the file. Raises RelookError when it cannot be written."""
    columns = [list(column) for column in zip(*failures, strict=True)] or [[], [], []]
    if path.suffix == ".csv":
        columns = [[escape_formula(text) for text in column] for column in columns]
    with write_errors(path), atomic_path(path) as temporary:
        write_table(temporary, pa.table(columns, FAILURES_SCHEMA))


def read_failures(path: Path) -> list[str]:
    """The ids in such a file; none where there is no file. Raises RelookError when it is damaged."""
    if not path.exists():
        return []
    ids: list[str] = read_table(path, FAILURES_SCHEMA)["id"].to_pylist()
    return [unescape_formula(name) for name in ids] if path.suffix == ".csv" else ids
