"""What tests of the catalog share: folders, manifests, and the line with which a source is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.catalog import Catalog, load_catalog
from pipeline.errors import RelookError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def ids(catalog: Catalog) -> list[str]:
    return [record.id for record in catalog]


def write_csv(folder: Path, text: str, encoding: str = "utf-8") -> str:
    file = folder / "manifest.csv"
    file.write_bytes(text.encode(encoding))
    return str(file)


def write_parquet(folder: Path, **columns: Any) -> str:
    file = folder / "manifest.parquet"
    pq.write_table(pa.table(columns), file)
    return str(file)


def refusal(source: str) -> str:
    """The one line with which a source is refused."""
    with pytest.raises(RelookError) as caught:
        load_catalog(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)
