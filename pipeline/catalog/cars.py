"""Cars-196 in its published layout: `cars_annos.mat` beside `car_ims/`.

One of the catalog's sources. Krause et al., 3dRR 2013. Splits are those of metric learning (Song et al., CVPR 2016):
the first half of the classes is "train", the other half "test"; the field `test` of the annotations is of
classification.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.catalog.base import Catalog, checked, expect, home_of, labelled
from pipeline.catalog.column_records import refuse_outside
from pipeline.errors import RelookError
from pipeline.types import ImageRecord

_IMAGES = 16_185
_CLASSES = 196


def load_cars(folder: Path) -> Catalog:
    """Labels are the names of the classes; ids are the paths of the annotations."""
    root = home_of(folder, "cars_annos.mat", "cars196")
    file = root / "cars_annos.mat"
    names, photos = _read(file)
    refuse_outside(pa.array([path for path, _ in photos], pa.string()), str(file))
    classes = sorted({number for _, number in photos})
    if classes and not 1 <= classes[0] <= classes[-1] <= len(names):
        raise RelookError(f"{file}: it names class {classes[-1]} of {len(names)}")
    expect(f"cars196:{folder}", "images", len(photos), _IMAGES)
    expect(f"cars196:{folder}", "classes", len(classes), _CLASSES)
    train = set(classes[: len(classes) // 2])
    records = [
        ImageRecord(id=path, path=path, label=names[number - 1], split="train" if number in train else "test")
        for path, number in photos
    ]
    return checked(root, records, f"cars196:{folder}")


CARS = labelled("cars196", "classes", load_cars)


def _read(file: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """The names of the classes, and (path, number of its class from 1) of each photo."""
    from scipy.io import loadmat

    try:
        content: dict[str, Any] = loadmat(file, squeeze_me=True)
        names = [str(name) for name in np.atleast_1d(content["class_names"])]
        rows = np.atleast_1d(content["annotations"])
        photos = [(str(row["relative_im_path"]), int(row["class"])) for row in rows]
    except Exception as error:  # a damaged file makes scipy raise whatever its bytes lead to
        raise RelookError(f"{file}: not the annotations of Cars-196 ({type(error).__name__}: {error})") from None
    return names, photos
