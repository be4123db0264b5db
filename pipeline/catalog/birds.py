"""CUB-200-2011 in its published layout: `images.txt` and `image_class_labels.txt` beside `images/CLASS/`.

One of the catalog's sources. Wah et al., Caltech, 2011. Splits are those of metric learning (Song et al., CVPR 2016):
the first half of the classes is "train", the other half "test"; `train_test_split.txt` is of classification.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from pipeline.catalog.base import Catalog, checked, expect, home_of, labelled, read_lines
from pipeline.catalog.column_records import refuse_outside
from pipeline.errors import RelookError
from pipeline.types import ImageRecord

_IMAGES = 11_788
_CLASSES = 200


def load_birds(folder: Path) -> Catalog:
    """Labels are the names of the class folders; ids are the paths of `images.txt`."""
    root = home_of(folder, "images.txt", "cub200", "CUB_200_2011")
    paths, numbers = _pairs(root / "images.txt"), _pairs(root / "image_class_labels.txt")
    missing = paths.keys() - numbers.keys()
    if missing:
        raise RelookError(f"{root / 'image_class_labels.txt'}: has no class of image {min(missing)}")
    refuse_outside(pa.array(list(paths.values()), pa.string()), str(root / "images.txt"))
    classes = sorted({_number(numbers[key], root) for key in paths})
    expect(f"cub200:{folder}", "images", len(paths), _IMAGES)
    expect(f"cub200:{folder}", "classes", len(classes), _CLASSES)
    train = set(classes[: len(classes) // 2])
    records = [
        ImageRecord(
            id=path,
            path=f"images/{path}",
            label=path.rsplit("/", 1)[0],
            split="train" if int(numbers[key]) in train else "test",
        )
        for key, path in paths.items()
    ]
    return checked(root, records, f"cub200:{folder}")


BIRDS = labelled("cub200", "classes", load_birds)


def _pairs(file: Path) -> dict[str, str]:
    """Lines "number value", by number."""
    pairs = {}
    for number, line in enumerate(read_lines(file), start=1):
        parts = line.split(maxsplit=1)
        if len(parts) != 2 or not parts[0].isdigit():
            raise RelookError(f"{file}, line {number}: expected a number and a value")
        if parts[0] in pairs:
            raise RelookError(f"{file}, line {number}: duplicate number {parts[0]}")
        pairs[parts[0]] = parts[1].strip()
    return pairs


def _number(text: str, root: Path) -> int:
    if not text.isdigit():
        raise RelookError(f"{root / 'image_class_labels.txt'}: {text!r} is not the number of a class")
    return int(text)
