"""Revisited Oxford and Paris in their published layout: photos in `jpg/`, ground truth in `gnd_NAME.pkl`.

One of the catalog's sources, and the one million distractors that go with them (`revisitop1m/`). Radenovic et al.,
"Revisiting Oxford and Paris", CVPR 2018. Queries are cropped to their box and are not part of the gallery.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from pipeline.catalog.base import Catalog, DataSet, checked, expect, home_of
from pipeline.catalog.column_records import ColumnRecords, refuse_outside
from pipeline.catalog.plain_pickle import read_plain_pickle
from pipeline.errors import RelookError
from pipeline.types import Box, GroundTruth, ImageRecord

GRADES = ("easy", "hard", "junk")
_GALLERY = {"roxford5k": 4_993, "rparis6k": 6_322}
_QUERIES = 70
_DISTRACTORS = 1_001_001


def revisited(name: str) -> DataSet:
    """`roxford5k` or `rparis6k`; ids are the names of the ground truth, which are those of the files without `.jpg`."""
    return DataSet(lambda folder: _gallery(name, folder), lambda folder: _truth(name, folder))


def revisited_with_distractors(name: str) -> DataSet:
    """Such a data set and the distractors: its folder holds those of both, `NAME/` and `revisitop1m/`."""

    def gallery(folder: Path) -> Catalog:
        source = f"{name}+1m:{folder}"
        small, many = _gallery(name, folder / name), _distractors(folder / "revisitop1m")
        ids = pa.array([record.id for record in small], pa.string())
        paths = pa.array([f"{name}/{record.path}" for record in small], pa.string())
        below = pc.binary_join_element_wise("revisitop1m/jpg", many, "/")
        ids, paths = pa.concat_arrays([ids, many]), pa.concat_arrays([paths, below])
        return Catalog(folder.resolve(), ColumnRecords(ids, paths, None, "", source))

    def truth(folder: Path) -> GroundTruth:
        truth = _truth(name, folder / name)
        queries = tuple(replace(query, path=f"{name}/{query.path}") for query in truth.queries)
        return replace(truth, dataset=f"{name}+1m", root=folder.resolve(), queries=queries)

    return DataSet(gallery, truth)


def _load_distractors(folder: Path) -> Catalog:
    ids = _distractors(folder)
    paths = pc.binary_join_element_wise("jpg", ids, "/")
    return Catalog(folder.resolve(), ColumnRecords(ids, paths, None, "", f"revisitop1m:{folder}"))


def _no_queries(folder: Path) -> GroundTruth:
    raise RelookError(f"revisitop1m:{folder}: has no queries; use roxford5k+1m or rparis6k+1m")


# The lines of `revisitop1m.txt` are paths below `jpg/`; they are the ids.
DISTRACTORS = DataSet(_load_distractors, _no_queries)


@dataclass(frozen=True)
class _Published:
    """A ground truth file, checked: names of gallery and queries, and per query its box and rows by grade."""

    root: Path
    gallery: list[str]
    queries: list[str]
    boxes: list[Box]
    rows: dict[str, list[list[int]]]


def _distractors(folder: Path) -> pa.Array:
    """The lines of the list, as one column."""
    file = home_of(folder, "revisitop1m.txt", "revisitop1m") / "revisitop1m.txt"
    read = pacsv.ReadOptions(column_names=["id"])
    parse = pacsv.ParseOptions(delimiter="\t", quote_char=False)
    try:
        table = pacsv.read_csv(file, read, parse, pacsv.ConvertOptions(column_types={"id": pa.string()}))
    except (OSError, pa.ArrowException) as error:
        raise RelookError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None
    ids = pc.utf8_trim_whitespace(table["id"].combine_chunks())
    refuse_outside(ids, str(file))
    expect(f"revisitop1m:{folder}", "distractors", len(ids), _DISTRACTORS)
    return ids


def _gallery(name: str, folder: Path) -> Catalog:
    published = _read(name, folder)
    expect(f"{name}:{folder}", "gallery images", len(published.gallery), _GALLERY[name])
    records = [ImageRecord(id=image, path=f"jpg/{image}.jpg") for image in published.gallery]
    return checked(published.root, records, f"{name}:{folder}")


def _truth(name: str, folder: Path) -> GroundTruth:
    published = _read(name, folder)
    expect(f"{name}:{folder}", "queries", len(published.queries), _QUERIES)
    queries = tuple(
        ImageRecord(id=image, path=f"jpg/{image}.jpg", bbox=box)
        for image, box in zip(published.queries, published.boxes, strict=True)
    )
    checked(published.root, queries, f"queries of {name}:{folder}")
    names = published.gallery
    groups = {grade: [[names[row] for row in rows] for rows in published.rows[grade]] for grade in GRADES}
    return GroundTruth(name, "revisited", published.root, queries, groups)


def _read(name: str, folder: Path) -> _Published:
    root = home_of(folder, f"gnd_{name}.pkl", name)
    file = root / f"gnd_{name}.pkl"
    content = read_plain_pickle(file)
    try:
        gallery, queries = (_names(content[key]) for key in ("imlist", "qimlist"))
        truths = content["gnd"]
        if len(truths) != len(queries):
            raise ValueError(f"{len(queries)} queries and {len(truths)} ground truths")
        boxes = [_box(truth["bbx"]) for truth in truths]
        rows = {grade: [_rows(truth, grade, len(gallery)) for truth in truths] for grade in GRADES}
    except (KeyError, TypeError, ValueError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise RelookError(f"{file}: not the ground truth of {name} ({what})") from None
    return _Published(root, gallery, queries, boxes, rows)


def _names(values: Any) -> list[str]:
    """Names of files without an ending. Raises ValueError where one leaves the folder."""
    for value in values:
        if not isinstance(value, str) or not value or "/" in value or "\\" in value or value.startswith("."):
            raise ValueError(f"{value!r} is not the name of a photo")
    return list(values)


def _box(values: Any) -> Box:
    x0, y0, x1, y1 = (float(value) for value in values)
    if not (math.isfinite(x0 + y0 + x1 + y1) and x1 > x0 and y1 > y0):
        raise ValueError(f"bbx {values!r} is empty")
    return (x0, y0, x1, y1)


def _rows(truth: Mapping[str, Any], grade: str, count: int) -> list[int]:
    rows = [int(row) for row in truth[grade]]
    wrong = [row for row in rows if not 0 <= row < count]
    if wrong:
        raise ValueError(f"{grade} names row {wrong[0]} of {count}")
    return rows
