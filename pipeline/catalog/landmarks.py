"""Google Landmarks v2 in its published layout: `SPLIT/a/b/c/abc....jpg` for the photo with the id `abc...`.

One of the catalog's sources: train, train-clean and index with their tables, test with the solutions of both tasks.
Weyand et al., "Google Landmarks Dataset v2", CVPR 2020. Everything stays in columns: train has four million rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from pipeline.catalog.base import Catalog, DataSet, expect
from pipeline.catalog.column_records import ColumnRecords
from pipeline.catalog.strict_csv import StrictCsv
from pipeline.errors import RelookError
from pipeline.types import GroundTruth, ImageRecord

_TRAIN = (4_132_914, 203_094)
_TRAIN_CLEAN = (1_580_470, 81_313)
_INDEX = 761_757
_TEST = 117_577
_USAGES = ("Public", "Private", "Ignored")
_ID = "[0-9a-z]{3,64}"


def load_train(folder: Path) -> Catalog:
    """`train.csv` (id, url, landmark_id): every photo, labelled by its landmark."""
    source, file = f"gldv2-train:{folder}", _table(folder, "train", "train.csv")
    table = _read(file, "id", "landmark_id")
    return _labelled(folder, source, table["id"], table["landmark_id"], _TRAIN)


def load_train_clean(folder: Path) -> Catalog:
    """`train_clean.csv` (landmark_id, ids of its photos, divided by spaces)."""
    source, file = f"gldv2-train-clean:{folder}", _table(folder, "train", "train_clean.csv")
    table = _read(file, "landmark_id", "images")
    lists = pc.split_pattern(pc.utf8_trim_whitespace(table["images"]), " ")
    labels = pc.take(table["landmark_id"], pc.list_parent_indices(lists))
    return _labelled(folder, source, pc.list_flatten(lists), labels, _TRAIN_CLEAN)


def load_index(folder: Path) -> Catalog:
    """`index.csv` (id), and the landmarks of `index_image_to_landmark.csv` where that is there."""
    source = f"gldv2:{folder}"
    ids = _read(_table(folder, "index", "index.csv"), "id")["id"]
    labels = None
    if _found(folder, "index", "index_image_to_landmark.csv") is not None:
        known = _read(_table(folder, "index", "index_image_to_landmark.csv"), "id", "landmark_id")
        rows = pc.index_in(ids, value_set=known["id"].combine_chunks())
        labels = pc.fill_null(pc.take(known["landmark_id"], rows), "")
    expect(source, "images in the index", len(ids), _INDEX)
    return Catalog(folder.resolve(), _records("index", ids, labels, source))


def retrieval(folder: Path) -> GroundTruth:
    """`retrieval_solution_v2.1.csv` (id, images, Usage); splits "public" and "private", the photos of the index."""
    queries, positives, ignored = [], [], 0
    for query, truth, where in _solution(folder, "retrieval_solution_v2.1.csv"):
        if query.split == "ignored":
            ignored += 1
            continue
        if not truth or "None" in truth:
            raise RelookError(f"{where}: a query that is scored has no photo in the index")
        queries.append(query)
        positives.append(truth)
    expect(f"gldv2:{folder}", "test images", len(queries) + ignored, _TEST)
    return GroundTruth("gldv2", "gldv2", folder.resolve(), tuple(queries), {"positive": positives}, ignored)


def _recognition(name: str, folder: Path) -> GroundTruth:
    """`recognition_solution_v2.1.csv` (id, landmarks, Usage); most photos show no landmark, and count as such."""
    queries, labels, ignored = [], [], 0
    for query, truth, _where in _solution(folder, "recognition_solution_v2.1.csv"):
        if query.split == "ignored":
            ignored += 1
            continue
        queries.append(query)
        labels.append([label for label in truth if label != "None"])
    expect(f"{name}:{folder}", "test images", len(queries) + ignored, _TEST)
    return GroundTruth(name, "gldv2_recognition", folder.resolve(), tuple(queries), {"label": labels}, ignored)


# Retrieval searches the index; recognition finds the landmark of the nearest photos of a training set.
INDEX = DataSet(load_index, retrieval)
TRAIN = DataSet(load_train, lambda folder: _recognition("gldv2-train", folder))
TRAIN_CLEAN = DataSet(load_train_clean, lambda folder: _recognition("gldv2-train-clean", folder))


def _labelled(
    folder: Path, source: str, ids: pa.ChunkedArray, labels: pa.ChunkedArray, published: tuple[int, int]
) -> Catalog:
    expect(source, "images", len(ids), published[0])
    expect(source, "landmarks", len(pc.unique(labels)), published[1])
    return Catalog(folder.resolve(), _records("train", ids, labels, source))


def _records(split: str, ids: pa.ChunkedArray, labels: pa.ChunkedArray | None, source: str) -> ColumnRecords:
    ids = ids.combine_chunks()
    strange = pc.invert(pc.match_substring_regex(ids, rf"^{_ID}\z"))
    if pc.any(strange).as_py():
        raise RelookError(f"{source}: {ids.filter(strange)[0].as_py()!r} is not the id of a photo")
    letters = [pc.utf8_slice_codeunits(ids, start, start + 1) for start in range(3)]
    files = pc.binary_join_element_wise(ids, ".jpg", "")
    paths = pc.binary_join_element_wise(split, *letters, files, "/")
    return ColumnRecords(ids, paths, None if labels is None else labels.combine_chunks(), split, source)


def _solution(folder: Path, name: str) -> Iterator[tuple[ImageRecord, list[str], str]]:
    """Per row the query, with its usage as split, its ground truth, and the row's place for messages."""
    file = _table(folder, "test", name)
    seen: set[str] = set()
    table = StrictCsv(file, lambda header: "id" in header)
    if len(table.header) != 3:
        raise RelookError(f"{file}, line 1: expected three columns, an id, its ground truth and its usage")
    for name, truth, usage in table:
        where = f"{file}, line {table.line}"
        if usage not in _USAGES or not re.fullmatch(_ID, name):
            raise RelookError(f"{where}: expected an id, its ground truth, and one of {', '.join(_USAGES)}")
        if name in seen:
            raise RelookError(f"{where}: duplicate id {name!r}")
        seen.add(name)
        path = f"test/{name[0]}/{name[1]}/{name[2]}/{name}.jpg"
        yield ImageRecord(id=name, path=path, split=usage.lower()), truth.split(), where


def _table(folder: Path, split: str, name: str) -> Path:
    found = _found(folder, split, name)
    if found is None:
        places = f"{split}/, metadata/ or the folder itself"
        raise RelookError(f"{folder}: not Google Landmarks v2 (there is no {name} in {places})")
    return found


def _found(folder: Path, split: str, name: str) -> Path | None:
    places = (folder / split / name, folder / "metadata" / name, folder / name)
    return next((place for place in places if place.is_file()), None)


def _read(file: Path, *columns: str) -> pa.Table:
    """Columns of text, "" for empty cells.

    Arrow reads four million rows in seconds, but a quote that is never closed joins rows without an error. No cell of
    these tables has a line break, so each line has to be a row.
    """
    convert = pacsv.ConvertOptions(
        include_columns=list(columns),
        column_types=dict.fromkeys(columns, pa.string()),
        strings_can_be_null=False,
    )
    # Two thousand ids stand in one cell of train_clean.csv.
    read, parse = pacsv.ReadOptions(block_size=16 << 20), pacsv.ParseOptions(newlines_in_values=True)
    try:
        table = pacsv.read_csv(file, read, parse, convert)
        with file.open("rb") as stream:
            lines = sum(1 for line in stream if line.strip()) - 1
    except (OSError, KeyError, pa.ArrowException) as error:
        _refuse_loose(file, columns)
        raise RelookError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None
    if lines != len(table):
        _refuse_loose(file, columns)
        raise RelookError(f"{file}: {lines:,} lines below its header and {len(table):,} rows; a cell has a line break")
    return table


def _refuse_loose(file: Path, columns: Sequence[str]) -> None:
    """Raises RelookError naming the first row and column that are not strict CSV, if there are any."""
    for _ in StrictCsv(file, lambda header: set(columns) <= set(header)):
        pass
