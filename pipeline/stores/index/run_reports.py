"""What runs report: one JSON file per run that changed the index, `latest.json`, and the images that cannot be read.

Written by the index writer, read by people and by whatever monitors a nightly run. A CSV of failures is safe to open in
a spreadsheet.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.files import atomic_path, escape_formula, unescape_formula, write_bytes, write_errors
from pipeline.stores.index.tables import FAILURES_SCHEMA, read_table, write_table

LATEST = "runs/latest.json"
# So many reports are kept, the latest ones by their names: a nightly run must not fill a folder over the years.
KEPT = 100

_NAME = re.compile(r"\d{8}T\d{6}-[a-z-]+-[0-9a-f]{4}\.json")


def write_report(directory: Path, verb: str, report: Mapping[str, Any], *, changed: bool) -> None:
    """Keep a report as the latest one and, where the run `changed` the index, as runs/<time>-<verb>-<random>.json."""
    now = datetime.now(UTC)
    content = json.dumps({"verb": verb, "time": now.isoformat(), **report}, indent=1, ensure_ascii=False).encode()
    runs = directory / "runs"
    with write_errors(runs):
        if changed:
            write_bytes(runs / f"{now:%Y%m%dT%H%M%S}-{verb}-{secrets.token_hex(2)}.json", content)
            for name in sorted(path.name for path in runs.iterdir() if _NAME.fullmatch(path.name))[:-KEPT]:
                (runs / name).unlink()
        write_bytes(directory / LATEST, content)


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


def read_failure_rows(path: Path) -> list[tuple[str, str, str]]:
    """What `write_failures` wrote; see `read_failures`."""
    if not path.exists():
        return []
    table = read_table(path, FAILURES_SCHEMA)
    columns = [table[name].to_pylist() for name in ("id", "path", "reason")]
    if path.suffix == ".csv":
        columns = [[unescape_formula(text) for text in column] for column in columns]
    return list(zip(*columns, strict=True))
