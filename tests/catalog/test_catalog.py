"""The catalog: which images exist, from folders, manifests and published data sets, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photos import SmallCollection

from pipeline.catalog import Catalog, load_catalog
from pipeline.errors import RelookError, UsageError
from pipeline.types import ImageRecord


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


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_is_searched_to_any_depth_and_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/z.png", "a/b/c/d/e.webp", "a.jpg", "B.jpg", "a-b/x.gif")
    catalog = load_catalog(str(tmp_path))
    assert ids(catalog) == ["B.jpg", "a-b/x.gif", "a.jpg", "a/b/c/d/e.webp", "a/z.png", "b.jpg"]
    assert [record.path for record in catalog] == ids(catalog)
    assert len(catalog) == 6
    assert catalog.root == tmp_path.resolve()
    assert catalog.file(catalog.records[3]) == tmp_path.resolve() / "a" / "b" / "c" / "d" / "e.webp"
    assert {record.label for record in catalog} == {""}
    assert {record.split for record in catalog} == {""}


def test_hidden_files_and_folders_are_left_out_and_other_files_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", ".b.jpg", ".cache/c.jpg", "sub/.d.jpg", "sub/._e.jpg")
    touch(tmp_path, "notes.txt", "sub/readme.md", "sub/noending", "paper.pdf", "film.mpg", "index.h5", ".DS_Store")
    catalog = load_catalog(str(tmp_path))
    assert ids(catalog) == ["a.jpg"]
    assert catalog.ignored == 6


def test_endings_in_upper_case_and_several_formats(tmp_path: Path) -> None:
    names = [
        "A.JPG",
        "b.Jpeg",
        "c.PNG",
        "d.tif",
        "e.TIFF",
        "f.bmp",
        "g.webp",
        "h.gif",
        "i.ppm",
        "j.jp2",
        "k.avif",
        "l.heic",
        "m.HIF",
    ]
    assert ids(load_catalog(str(touch(tmp_path, *names)))) == names


@pytest.mark.parametrize(("labels", "wanted"), [("folder", ["", "cat", "siamese"]), ("none", ["", "", ""])])
def test_the_folder_can_be_the_label(labels: Any, wanted: list[str], tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "cat/2.jpg", "cat/siamese/3.jpg")
    assert [record.label for record in load_catalog(str(tmp_path), labels)] == wanted


def test_names_in_any_script(tmp_path: Path) -> None:
    names = ["Ölberg/Straße 1.jpg", "東京/浅草.jpg", "a b/c d.jpg", "x,y;z=1.jpg", 'it\'s "here".jpg', "🗼.png"]
    touch(tmp_path, *names)
    assert ids(load_catalog(str(tmp_path))) == sorted(names)


def test_a_name_that_is_no_utf_8_is_a_failure_in_print(tmp_path: Path) -> None:
    """No table could hold it as an id."""
    touch(tmp_path, "sub/good.jpg")
    try:
        os.close(os.open(os.fsencode(tmp_path) + b"/sub/caf\xe9 \xc3\xa9.jpg", os.O_CREAT))
    except OSError:
        pytest.skip("this file system takes no such names")
    catalog = load_catalog(str(tmp_path))
    assert ids(catalog) == ["sub/good.jpg"]
    name = "sub/caf\\xe9 é.jpg"
    assert catalog.failed == ((name, name, "its name is not UTF-8; rename the file"),)
    (tmp_path / "sub" / "good.jpg").unlink()
    assert refusal(str(tmp_path)) == f"{tmp_path}: holds no images; the names of 1 are not UTF-8, such as {name}"


def test_links_to_files_count_and_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.jpg", "photos/b.jpg")
    photos = tmp_path / "photos"
    (photos / "again").symlink_to(tmp_path / "elsewhere")
    (photos / "round").symlink_to(photos)
    (photos / "c.jpg").symlink_to(tmp_path / "elsewhere" / "a.jpg")
    (photos / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    catalog = load_catalog(str(photos))
    assert ids(catalog) == ["b.jpg", "c.jpg", "gone.jpg"]  # the last is an error when it is read
    assert catalog.ignored == 2


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    touch(tmp_path, "photos/b.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    assert ids(load_catalog(str(tmp_path / "link"))) == ["b.jpg"]


def test_a_folder_without_photos(tmp_path: Path) -> None:
    assert refusal(str(tmp_path)) == f"{tmp_path}: holds no images"
    assert refusal(str(touch(tmp_path, ".hidden.jpg"))) == f"{tmp_path}: holds no images"


def test_a_folder_without_photos_says_what_was_ignored(tmp_path: Path) -> None:
    touch(tmp_path, "film.mp4", "b.MP4", "Makefile", "m.csv", *(f"{number}.pdf" for number in range(3)))
    line = refusal(str(tmp_path)).removeprefix(f"{tmp_path}: holds no images; 7 files ignored: 3 .pdf, 2 .mp4, ")
    counts, hint = line.split("; ")
    assert sorted(counts.split(", ")) == [
        "1 .csv",
        "1 files without an ending",
    ]  # equal counts in the order of the walk
    assert hint == "a table of images is given by its own path"


def test_what_is_ignored_beside_photos_is_counted_by_ending(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "relook")
    touch(tmp_path, "a.jpg", "b.mp4", "sub/c.mp4", *(f"{number}.e{number}" for number in range(10)))
    assert load_catalog(str(tmp_path)).ignored == 12
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{tmp_path}: 12 files ignored: 2 .mp4, 1 .e")
    assert caplog.messages[0].endswith(", 3 others")


NAS = [
    *(
        "@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg",
        "#recycle/1.jpg",
        "sub/@EADIR/x.jpg",
        "lost+found/2.jpg",
        "__MACOSX/._a.jpg",
    ),
    *(
        "$RECYCLE.BIN/3.jpg",
        "System Volume Information/x.jpg",
        ".thumbnails/t.jpg",
        "._0.jpg",
        "Cat Previews.lrdata/p.jpg",
    ),
    *("Thumbs.db", ".dtrash/d.jpg", "@Recycle/r.jpg", "#snapshot/daily/0.jpg", ".Trash-1000/files/t.jpg"),
]


def test_folders_of_drives_and_photo_software_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "relook")
    touch(tmp_path, "0.jpg", "sub/1.jpg", *NAS)
    catalog = load_catalog(str(tmp_path))
    assert ids(catalog) == ["0.jpg", "sub/1.jpg"]
    assert catalog.ignored == 0
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{tmp_path}: left out by catalog.exclude: 4 .*, 2 @eaDir, 1 ")
    assert len(load_catalog(str(tmp_path), exclude=None)) == 2 + len(NAS) - 1
    assert load_catalog(str(tmp_path), exclude=[]).ignored == 1  # Thumbs.db


def test_patterns_of_what_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a (copy).JPG", "sub/a.jpg", "sub/raw/b.jpg", "raw/c.jpg", "d.tif")
    assert ids(load_catalog(str(tmp_path), exclude=["RAW"])) == ["a (copy).JPG", "a.jpg", "d.tif", "sub/a.jpg"]
    assert ids(load_catalog(str(tmp_path), exclude=["* (copy).*", "*.tif", "sub/raw"])) == [
        "a.jpg",
        "raw/c.jpg",
        "sub/a.jpg",
    ]


def test_a_closed_folder_that_is_left_out_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", "lost+found/b.jpg")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        assert not str(path).endswith("lost+found")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert ids(load_catalog(str(tmp_path))) == ["a.jpg"]


def test_a_folder_inside_that_cannot_be_read_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", "closed/b.jpg")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    line = refusal(str(tmp_path))
    assert line.startswith(f"{tmp_path / 'closed'}: Permission denied; its photos would count as removed: ")
    assert ids(load_catalog(str(tmp_path), exclude=["closed"])) == ["a.jpg"]


# --- what is neither folder nor table ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gone", "gone/deeper", "gone.csv", "gone.parquet", "./a:b", ""])
def test_nothing_there(name: str, tmp_path: Path) -> None:
    source = str(tmp_path / name) if name else str(tmp_path / "gone")
    assert refusal(source) == f"{source}: no such folder or manifest"


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    assert "too long" in refusal("x" * 5000)
    assert "no such folder" in refusal("~/photos")  # the configuration expands it; here it is a name like any other
    assert "no such folder" in refusal("a\0b")


def test_a_file_of_another_type(tmp_path: Path) -> None:
    touch(tmp_path, "photo.jpg")
    assert refusal(str(tmp_path / "photo.jpg")).endswith(
        "expected a folder or a manifest ending in .csv, .tsv, .txt or .parquet"
    )


def test_an_unknown_data_set_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown data set 'grocry'; did you mean 'grocery'\?"):
        load_catalog("grocry:/data")
    with pytest.raises(UsageError, match=r"unknown data set 'zzz'; known: .*grocery"):
        load_catalog("zzz:/data")


@pytest.mark.parametrize("source", ["https://example.org/photos", "ftp://bucket/photos"])
def test_a_url_is_said_to_be_one(source: str) -> None:
    with pytest.raises(RelookError, match=f"{source}: relook reads files and fetches no URLs; download it"):
        load_catalog(source)


@pytest.mark.parametrize("source", [r"C:\photos", "C:/photos", "2024:06"])
def test_a_path_with_a_colon_is_no_data_set(source: str) -> None:
    with pytest.raises(RelookError, match="no such folder or manifest"):
        load_catalog(source)


# --- manifests --------------------------------------------------------------------------------------------------------


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


# --- Parquet ----------------------------------------------------------------------------------------------------------


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


# --- splits -----------------------------------------------------------------------------------------------------------


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


# --- the Grocery Store data set ---------------------------------------------------------------------------------------

CLASSES = """\
Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),Iconic Image Path (str),Product Description Path (str)
Golden-Delicious,0,Apple,0,/iconic/Golden.jpg,/iconic/Golden.txt
Royal-Gala,1,Apple,0,/iconic/Gala.jpg,/iconic/Gala.txt
"""  # noqa: E501


@pytest.fixture
def grocery(tmp_path: Path) -> Path:
    (tmp_path / "classes.csv").write_text(CLASSES)
    (tmp_path / "train.txt").write_text("train/a/a_1.jpg, 0, 0\ntrain/b/b_1.jpg, 1, 0\n\n")
    (tmp_path / "val.txt").write_text("val/b/b_2.jpg, 1, 0\n")
    return tmp_path


def test_grocery_in_its_published_layout(grocery: Path) -> None:
    catalog = load_catalog(f"grocery:{grocery}")
    assert [(record.id, record.path, record.label, record.split) for record in catalog] == [
        ("iconic/Golden.jpg", "iconic/Golden.jpg", "Golden-Delicious", "iconic"),
        ("iconic/Gala.jpg", "iconic/Gala.jpg", "Royal-Gala", "iconic"),
        ("train/a/a_1.jpg", "train/a/a_1.jpg", "Golden-Delicious", "train"),
        ("train/b/b_1.jpg", "train/b/b_1.jpg", "Royal-Gala", "train"),
        ("val/b/b_2.jpg", "val/b/b_2.jpg", "Royal-Gala", "val"),
    ]
    assert catalog.root == grocery.resolve()


@pytest.mark.parametrize("line", ["val/x.jpg, 7, 0", "val/x.jpg", "val/x.jpg, 0", "a, b, 0, 0", "val/x.jpg, zero, 0"])
def test_a_bad_line_of_grocery_is_named(line: str, grocery: Path) -> None:
    (grocery / "val.txt").write_text(f"val/b/b_2.jpg, 1, 0\n{line}\n")
    assert refusal(f"grocery:{grocery}").startswith(f"{grocery / 'val.txt'}, line 2: expected ")


def test_grocery_without_its_files(grocery: Path) -> None:
    for name in ("train.txt", "val.txt"):
        (grocery / name).unlink()
    assert "there is no train.txt, val.txt or test.txt" in refusal(f"grocery:{grocery}")
    (grocery / "classes.csv").unlink()
    assert "there is no classes.csv" in refusal(f"grocery:{grocery}")
    assert "there is no classes.csv" in refusal(f"grocery:{grocery / 'gone'}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,number\na,1\n", ": not the classes of the Grocery Store data set"),
        (
            "Class Name (str),Class ID (int),Iconic Image Path (str)\nshort\n",
            ", row 1 (line 2): 1 cell, the header has 3",
        ),
        (CLASSES.replace("Gala,1", 'Gala,"1'), ", row 2 (line 3): column 'Class ID (int)': a quote is not closed"),
        (CLASSES.replace("Gala,1", "Gala,0"), ": duplicate class id"),
        ("\xff", ", line 1: cannot be read as CSV (byte 0xff is not UTF-8"),
    ],
)
def test_classes_of_something_else(text: str, says: str, grocery: Path) -> None:
    (grocery / "classes.csv").write_bytes(text.encode("latin-1"))
    assert refusal(f"grocery:{grocery}").startswith(f"{grocery / 'classes.csv'}{says}")


def test_the_shared_part_of_grocery_is_read_whole(shared: Path) -> None:
    catalog = load_catalog(f"grocery:{shared / 'data' / 'grocery'}")
    val = catalog.select("val")
    assert len(val) == 296
    assert len({record.label for record in val}) == 60
    assert all(catalog.file(record).is_file() for record in val)
