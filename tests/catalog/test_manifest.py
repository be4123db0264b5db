"""Manifests of CSV and Parquet: columns, boxes, splits, and what is refused with its row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from catalog_sources import ids, refusal, write_csv, write_parquet
from hypothesis import given, settings
from hypothesis import strategies as st
from photos import SmallCollection

from pipeline.catalog import load_catalog
from pipeline.errors import RelookError
from pipeline.types import ImageRecord


def test_a_manifest_with_every_column(tmp_path: Path) -> None:
    source = write_csv(
        tmp_path,
        "note,id,path,label,split,bbox\n"
        "left alone,one,./photos//a.jpg,Eiffel Tower,train,1 2 30.5 40\n"
        ",,b.jpg,,,\n"
        ",three,/data/c.jpg, Louvre ,val,\n",
    )
    catalog = load_catalog(source, outside="allow")
    assert catalog.records == (
        ImageRecord("one", "photos/a.jpg", "Eiffel Tower", "train", (1.0, 2.0, 30.5, 40.0)),
        ImageRecord("b.jpg", "b.jpg"),
        ImageRecord("three", "/data/c.jpg", "Louvre", "val"),
    )
    assert catalog.root == tmp_path.resolve()
    assert catalog.file(catalog.records[0]) == tmp_path.resolve() / "photos" / "a.jpg"
    assert catalog.file(catalog.records[2]) == Path("/data/c.jpg")


def test_the_order_of_the_manifest_is_kept(tmp_path: Path) -> None:
    assert ids(load_catalog(write_csv(tmp_path, "path\nz.jpg\na.jpg\nm.jpg\n"))) == ["z.jpg", "a.jpg", "m.jpg"]


def test_the_small_collection_is_a_manifest(small_collection: SmallCollection) -> None:
    catalog = load_catalog(str(small_collection.manifest))
    assert {record.path: record.label for record in catalog} == small_collection.labels
    assert all(catalog.file(record).is_file() for record in catalog)
    folder = load_catalog(str(small_collection.folder))
    assert set(ids(folder)) == set(ids(catalog))
    assert folder.ignored == 1  # the manifest


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv_as_spreadsheets_write_it(encoding: str, newline: str, tmp_path: Path) -> None:
    text = newline.join(["path,label", "ä.jpg,Übersee", '"b.jpg","x, y"', '"c.jpg","two', 'lines"', "", "d.jpg,", ""])
    catalog = load_catalog(write_csv(tmp_path, text, encoding))
    assert ids(catalog) == ["ä.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert [record.label for record in catalog] == ["Übersee", "x, y", f"two{newline}lines", ""]


def test_spaces_after_commas_do_not_hide_a_column(tmp_path: Path) -> None:
    catalog = load_catalog(write_csv(tmp_path, 'path, label, split\na.jpg, "x, y", val\n'))
    assert catalog.records == (ImageRecord("a.jpg", "a.jpg", "x, y", "val"),)


def test_numbers_stay_the_text_that_they_are(tmp_path: Path) -> None:
    catalog = load_catalog(write_csv(tmp_path, "path,id,label,split\n1.jpg,007,0042,1e3\n2.jpg,1.0,true,\n"))
    assert catalog.records == (ImageRecord("007", "1.jpg", "0042", "1e3"), ImageRecord("1.0", "2.jpg", "true"))


def test_backslashes_become_slashes(tmp_path: Path) -> None:
    catalog = load_catalog(write_csv(tmp_path, "path\nphotos\\2019\\a.jpg\n"))
    assert catalog.records == (ImageRecord("photos/2019/a.jpg", "photos/2019/a.jpg"),)


@pytest.mark.parametrize("text", ["url,label\na.jpg,x\n", "a;label\na.jpg;x\n", "", "\n"])
def test_a_manifest_needs_a_column_path(text: str, tmp_path: Path) -> None:
    source = write_csv(tmp_path, text)
    message = refusal(source)
    assert message.startswith(f"{source}: has no column 'path'; its columns are: ")
    assert (text.split("\n")[0].split(",")[0].split(";")[0] or "none") in message


@pytest.mark.parametrize("row", ["  ,x", '"",x', ",x"])
def test_an_empty_path_is_named_by_its_row(row: str, tmp_path: Path) -> None:
    source = write_csv(tmp_path, f"path,label\na.jpg,y\n{row}\n")
    assert refusal(source) == f"{source}, row 2: the path is empty"


def test_equal_ids_are_named_with_both_paths(tmp_path: Path) -> None:
    message = refusal(write_csv(tmp_path, "path,id\na.jpg,one\nb.jpg,two\nc.jpg,one\n"))
    assert "duplicate id 'one' of image 1 (a.jpg) and image 3 (c.jpg)" in message
    assert "duplicate id 'a.jpg' of image 1" in refusal(write_csv(tmp_path, "path\na.jpg\n./a.jpg\n"))
    assert "duplicate id 'a.jpg' of image 1 (b.jpg) and image 2 (a.jpg)" in refusal(
        write_csv(tmp_path, "path,id\nb.jpg,a.jpg\na.jpg,\n")
    )


def test_one_picture_may_be_there_twice_under_two_ids(tmp_path: Path) -> None:
    source = write_csv(tmp_path, "path,id,bbox\na.jpg,left,0 0 5 9\na.jpg,right,5 0 9 9\n")
    assert [(record.id, record.path) for record in load_catalog(source)] == [("left", "a.jpg"), ("right", "a.jpg")]


@pytest.mark.parametrize("text", ["1 2 3 4", '"1,2,3,4"', '"1, 2, 3, 4"', "1.0  2e0   3 4.", '" 1 2 3 4 "'])
def test_forms_of_a_box(text: str, tmp_path: Path) -> None:
    assert load_catalog(write_csv(tmp_path, f"path,bbox\na.jpg,{text}\n")).records[0].bbox == (1, 2, 3, 4)


@pytest.mark.parametrize("text", ["", " ", '""'])
def test_an_empty_box_is_the_whole_picture(text: str, tmp_path: Path) -> None:
    assert load_catalog(write_csv(tmp_path, f"path,bbox\na.jpg,{text}\n")).records[0].bbox is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 2 3", "not four numbers"),
        ("1 2 3 4 5", "not four numbers"),
        ("a b c d", "not four numbers"),
        ("[1 2 3 4]", "not four numbers"),
        ("1 2 1 4", "is empty"),
        ("1 5 3 5", "is empty"),
        ("3 2 1 4", "is empty"),
        ("1 4 3 2", "is empty"),
        ("0 0 nan 4", "is empty"),
        ("0 0 inf 4", "is empty"),
        ("-inf 0 inf 4", "is empty"),
    ],
)
def test_a_bad_box_is_named_with_its_row(text: str, reason: str, tmp_path: Path) -> None:
    source = write_csv(tmp_path, f"path,bbox\na.jpg,0 0 1 1\nb.jpg,{text}\n")
    message = refusal(source)
    assert message.startswith(f"{source}, row 2: bbox {text!r}")
    assert reason in message


def test_a_manifest_without_rows(tmp_path: Path) -> None:
    assert refusal(write_csv(tmp_path, "path,label\n")).endswith("holds no images")


text_cells = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)


@settings(max_examples=30)
@given(st.lists(st.tuples(text_cells, text_cells), min_size=1, max_size=8, unique_by=lambda row: row[0]))
def test_csv_and_parquet_of_the_same_rows_are_the_same_catalog(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("manifests")
    quoted = ['"' + '","'.join(cell.replace('"', '""') for cell in row) + '"' for row in rows]
    numbers = [f"{number}.jpg" for number in range(len(rows))]
    lines = [f"{path},{row}" for path, row in zip(numbers, quoted, strict=True)]
    from_csv = load_catalog(write_csv(folder, "\n".join(["path,id,label", *lines])))
    names, labels = zip(*rows, strict=True)
    from_parquet = load_catalog(write_parquet(folder, path=numbers, id=list(names), label=list(labels)))
    assert from_csv.records == from_parquet.records
    assert [(record.id, record.label) for record in from_csv] == rows


def test_empty_cells_of_parquet(tmp_path: Path) -> None:
    source = write_parquet(
        tmp_path,
        path=["a.jpg", "b.jpg", "c.jpg"],
        id=["one", None, ""],
        label=pa.array([None, "x", "y"]),
        split=pa.array([np.nan, np.nan, np.nan]),
        bbox=pa.array([None, [0, 0, 1, 2], None]),
    )
    assert load_catalog(source).records == (
        ImageRecord("one", "a.jpg"),
        ImageRecord("b.jpg", "b.jpg", "x", bbox=(0, 0, 1, 2)),
        ImageRecord("c.jpg", "c.jpg", "y"),
    )


def test_whole_numbers_read_the_same_whether_or_not_a_cell_is_empty(tmp_path: Path) -> None:
    """A column of integers that has gaps is written as floats by pandas; 7 must not become "7.0" in one table only."""
    whole = load_catalog(write_parquet(tmp_path, path=["a.jpg", "b.jpg"], label=[7, 8]))
    gaps = load_catalog(write_parquet(tmp_path, path=["a.jpg", "b.jpg"], label=[7.0, np.nan]))
    assert [record.label for record in whole] == ["7", "8"]
    assert [record.label for record in gaps] == ["7", ""]
    half = load_catalog(write_parquet(tmp_path, path=["a.jpg"], label=[7.5]))
    assert half.records[0].label == "7.5"


def test_texts_like_numbers_stay_texts_in_parquet(tmp_path: Path) -> None:
    assert load_catalog(write_parquet(tmp_path, path=["a.jpg"], id=["007"])).records[0].id == "007"


@pytest.mark.parametrize("box", [[1.0, 2.0, 3.0, 4.0], "1 2 3 4", "1,2,3,4"])
def test_boxes_of_parquet(box: Any, tmp_path: Path) -> None:
    assert load_catalog(write_parquet(tmp_path, path=["a.jpg"], bbox=[box])).records[0].bbox == (1, 2, 3, 4)


@pytest.mark.parametrize("box", [[1.0, 2.0, 3.0], [1.0, None, 3.0, 4.0], 7, [3, 3, 3, 3], {"x0": 1, "y0": 2}])
def test_bad_boxes_of_parquet(box: Any, tmp_path: Path) -> None:
    assert "row 1: bbox" in refusal(write_parquet(tmp_path, path=["a.jpg"], bbox=[box]))


def test_bad_parquet(tmp_path: Path) -> None:
    assert "has no column 'path'" in refusal(write_parquet(tmp_path, url=["a.jpg"]))
    assert "row 1: the path is empty" in refusal(write_parquet(tmp_path, path=pa.array([None], pa.string())))
    (tmp_path / "text.parquet").write_text("path\na.jpg\n" * 20)
    assert "cannot be read as Parquet" in refusal(str(tmp_path / "text.parquet"))
    (tmp_path / "empty.parquet").touch()
    assert "cannot be read as Parquet" in refusal(str(tmp_path / "empty.parquet"))


def test_the_ending_may_be_in_upper_case(tmp_path: Path) -> None:
    Path(write_parquet(tmp_path, path=["a.jpg"])).rename(tmp_path / "M.PARQUET")
    Path(write_csv(tmp_path, "path\nb.jpg\n")).rename(tmp_path / "M.CSV")
    assert ids(load_catalog(str(tmp_path / "M.PARQUET"))) == ["a.jpg"]
    assert ids(load_catalog(str(tmp_path / "M.CSV"))) == ["b.jpg"]


def test_select_takes_one_split(small_collection: SmallCollection) -> None:
    catalog = load_catalog(str(small_collection.manifest))
    train, val = catalog.select("train"), catalog.select("val")
    assert len(train) == len(val) == 14
    assert {record.split for record in train} == {"train"}
    assert set(ids(train)) | set(ids(val)) == set(ids(catalog))
    assert train.root == catalog.root
    assert catalog.select(None) is catalog


def test_a_split_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    catalog = load_catalog(write_csv(tmp_path, "path,split\na.jpg,val\nb.jpg,train\nc.jpg,\n"))
    with pytest.raises(RelookError, match=r"no image has split 'test'; there are: train, val$"):
        catalog.select("test")
    bare = load_catalog(write_csv(tmp_path, "path\na.jpg\n"))
    with pytest.raises(RelookError, match="no splits at all"):
        bare.select("train")
