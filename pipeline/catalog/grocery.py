"""The Grocery Store data set (Klasson, Zhang, Kjellstroem, WACV 2019) in its published layout.

One of the catalog's sources: `train.txt`, `val.txt`, `test.txt` with lines "path, fine label, coarse label", and
`classes.csv`, whose iconic studio photos become the split "iconic". Labels are the names of the fine classes.
"""

from __future__ import annotations

import csv
from pathlib import Path

from pipeline.catalog.base import Catalog, checked
from pipeline.errors import RelookError
from pipeline.types import ImageRecord


def load_grocery(folder: Path) -> Catalog:
    """All photos of the lists that are there. Raises RelookError when `classes.csv` or every list is missing."""
    classes = folder / "classes.csv"
    if not classes.is_file():
        raise RelookError(f"{folder}: not the Grocery Store data set (there is no classes.csv)")
    with classes.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    names = {row["Class ID (int)"]: row["Class Name (str)"] for row in rows}
    records = [_record(row["Iconic Image Path (str)"].lstrip("/"), row["Class Name (str)"], "iconic") for row in rows]
    for split in ("train", "val", "test"):
        records += _read_list(folder / f"{split}.txt", split, names)
    return checked(folder, records, str(folder))


def _read_list(file: Path, split: str, names: dict[str, str]) -> list[ImageRecord]:
    if not file.is_file():
        return []
    records = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            path, fine, _coarse = (part.strip() for part in line.split(","))
            records.append(_record(path, names[fine], split))
        except (ValueError, KeyError):
            raise RelookError(f"{file}, line {number}: expected 'path, fine label, coarse label'") from None
    return records


def _record(path: str, label: str, split: str) -> ImageRecord:
    return ImageRecord(id=path, path=path, label=label, split=split)
