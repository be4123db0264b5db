"""Stanford Online Products in its published layout: `Ebay_train.txt` and `Ebay_test.txt` beside folders of photos.

One of the catalog's sources. Song et al., "Deep Metric Learning via Lifted Structured Feature Embedding", CVPR 2016.
Lines are "image_id class_id super_class_id path"; a label is a class_id, and no product is in both splits.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from pipeline.catalog.base import Catalog, checked, expect, home_of, labelled, read_lines
from pipeline.catalog.column_records import refuse_outside
from pipeline.errors import RelookError
from pipeline.types import ImageRecord

_HEADER = ["image_id", "class_id", "super_class_id", "path"]
_PUBLISHED = {"train": (59_551, 11_318), "test": (60_502, 11_316)}


def load_products(folder: Path) -> Catalog:
    """Splits "train" and "test"; ids are the paths. Raises RelookError when a list is missing or bad."""
    root = home_of(folder, "Ebay_test.txt", "sop", "Stanford_Online_Products")
    records: list[ImageRecord] = []
    for split, (images, products) in _PUBLISHED.items():
        part = _read_list(root / f"Ebay_{split}.txt", split)
        expect(f"sop:{folder}", f"{split} images", len(part), images)
        expect(f"sop:{folder}", f"{split} products", len({record.label for record in part}), products)
        records += part
    return checked(root, records, f"sop:{folder}")


PRODUCTS = labelled("sop", "products", load_products)


def _read_list(file: Path, split: str) -> list[ImageRecord]:
    header, *lines = read_lines(file) or [""]
    if header.split() != _HEADER:
        raise RelookError(f"{file}: not a list of Stanford Online Products (it begins with {header[:60]!r})")
    records = []
    for number, line in enumerate(lines, start=2):
        parts = line.split()
        if len(parts) != 4 or not parts[1].isdigit():
            raise RelookError(f"{file}, line {number}: expected 'image_id class_id super_class_id path'")
        records.append(ImageRecord(id=parts[3], path=parts[3], label=parts[1], split=split))
    refuse_outside(pa.array([record.path for record in records], pa.string()), str(file))
    return records
