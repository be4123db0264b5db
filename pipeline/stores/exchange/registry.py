"""Which reader opens what another program wrote. A new format is one file in this room and one line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.errors import RelookError, UsageError, unknown_name
from pipeline.stores.exchange.ames import open_ames
from pipeline.stores.exchange.base import ExternalSource, Options
from pipeline.stores.exchange.csv_tables import open_csv
from pipeline.stores.exchange.delg import SUFFIXES, open_delg

FORMATS: dict[str, Callable[[Path, Options], ExternalSource]] = {
    "delg": open_delg,
    "ames": open_ames,
    "csv": open_csv,
}


def open_external(source: Path, format: str, options: Options) -> ExternalSource:
    """Open a source.

    Args:
        source: a folder of `.delg_global` and `.delg_local` files, an HDF5 file as AMES reads it, or a CSV.
        format: a name of `FORMATS`; auto: by what the source is.
        options: what it may lack.

    Raises:
        UsageError: no such format.
        RelookError: the source is not there, or is of no known format, or is damaged.
    """
    if not source.exists():
        raise RelookError(f"{source}: no such file or folder")
    name = _found(source) if format == "auto" else format
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    return FORMATS[name](source, options)


def _found(source: Path) -> str:
    if source.is_dir() and any(next(source.rglob(f"*{suffix}"), None) for suffix in SUFFIXES):
        return "delg"
    name = {".csv": "csv", ".h5": "ames", ".hdf5": "ames", **dict.fromkeys(SUFFIXES, "delg")}.get(source.suffix.lower())
    if name is None:
        raise UsageError(f"{source}: cannot tell its format; name it with --format {'|'.join(FORMATS)}")
    return name
