"""The Grocery Store data set (Klasson, Zhang, Kjellstroem, WACV 2019) in its published layout.

One of the catalog's sources: `train.txt`, `val.txt`, `test.txt` with lines "path, fine label, coarse label", and
`classes.csv`, whose iconic studio photos become the split "iconic". Labels are the names of the fine classes.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.catalog.base import Catalog, checked, expect, labelled
from pipeline.catalog.strict_csv import StrictCsv
from pipeline.errors import RelookError
from pipeline.types import ImageRecord

_CLASS_COLUMNS = {"Class Name (str)", "Class ID (int)", "Iconic Image Path (str)"}
_PUBLISHED = {"train": 2_640, "val": 296, "test": 2_485}


def load_grocery(folder: Path) -> Catalog:
    """All photos of the lists that are there. Raises RelookError when `classes.csv` or every list is missing or bad."""
    names, records = _read_classes(folder)
    lists = {split: folder / f"{split}.txt" for split in ("train", "val", "test")}
    if not any(file.is_file() for file in lists.values()):
        raise RelookError(f"{folder}: not the Grocery Store data set (there is no train.txt, val.txt or test.txt)")
    for split, file in lists.items():
        part = _read_list(file, split, names)
        if file.is_file():
            expect(f"grocery:{folder}", f"{split} images", len(part), _PUBLISHED[split])
        records += part
    return checked(folder, records, str(folder))


GROCERY = labelled("grocery", "labels", load_grocery)


def _read_classes(folder: Path) -> tuple[dict[str, str], list[ImageRecord]]:
    """Names of the fine classes by number, and the iconic photos."""
    file = folder / "classes.csv"
    if not file.is_file():
        raise RelookError(f"{folder}: not the Grocery Store data set (there is no classes.csv)")
    table = StrictCsv(file, lambda header: set(header) >= _CLASS_COLUMNS)
    if not set(table.header) >= _CLASS_COLUMNS:
        raise RelookError(f"{file}: not the classes of the Grocery Store data set")
    rows = [dict(zip(table.header, cells, strict=True)) for cells in table]
    names = {row["Class ID (int)"]: row["Class Name (str)"] for row in rows}
    if len(names) != len(rows):
        raise RelookError(f"{file}: duplicate class id in its column 'Class ID (int)'")
    return names, [
        _record(row["Iconic Image Path (str)"].lstrip("/"), row["Class Name (str)"], "iconic") for row in rows
    ]


def _read_list(file: Path, split: str, names: dict[str, str]) -> list[ImageRecord]:
    if not file.is_file():
        return []
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise RelookError(f"{file}: cannot be read as UTF-8 ({error})") from None
    records = []
    for number, line in enumerate(lines, start=1):
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
