"""Tables are read as what they say or refused in one line: CSV strictly, headers by name, Parquet in all its types."""

from __future__ import annotations

import logging
import random
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_csv import any_csv, check

from pipeline.catalog import load_catalog
from pipeline.errors import RelookError

TWO = "0.jpg,a\n1.jpg,b\n"


def write(folder: Path, content: str | bytes, name: str = "m.csv") -> str:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(file)


def refusal(source: str) -> str:
    """What follows the file's name in the one line with which it is refused."""
    with pytest.raises(RelookError) as caught:
        load_catalog(source)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(source)
    return line.removeprefix(source)


def labels(source: str) -> dict[str, str]:
    return {record.path: record.label for record in load_catalog(source)}


# --- strict CSV -------------------------------------------------------------------------------------------------------

HEAD = "path,label\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEAD + '0.jpg,"a\n1.jpg,a\n2.jpg,b\n', ", row 1 (line 2): column 'label': a quote is not closed in its line"),
        (HEAD + '0.jpg,a\n1.jpg,"b\n2.jpg,"c\n', ", row 2 (line 3): column 'label': a quote is not closed in its line"),
        (HEAD + '0.jpg,"a\n1.jpg,a\n2.jpg,b"\n', ", row 1 (line 2): column 'label': the quoted cell has 3 lines that"),
        (
            HEAD + '"0.jpg,a\n1.jpg",a\n',
            ", row 1 (line 2): column 'path': the quoted cell has 2 lines that read as rows",
        ),
        (HEAD + '0.jpg,a\n1.jpg,"a"b\n', ", row 2 (line 3): column 'label': text after the closing quote, '\"a\"b'"),
        (HEAD + '0.jpg,5" pipe\n', ", row 1 (line 2): column 'label': a quote inside a cell that begins without one"),
        (HEAD + '0.jpg,"a \\"b\\" c"\n', ", row 1 (line 2): column 'label': text after the closing quote"),
        ('path,"label\n0.jpg,a\n', ", line 1: column 2: a quote is not closed in its line"),
        (
            HEAD + "0.jpg,Paris, France\n",
            ", row 1 (line 2): 3 cells, the header has 2: cell 3 is 'France', after column",
        ),
        (HEAD + "0.jpg,a\n\n1.jpg\n", ", row 2 (line 4): 1 cell, the header has 2: none for column 'label'"),
        ("path,label,label\n0.jpg,a,b\n", ": duplicate column 'label' in its header; rename or remove one"),
        ("path,path\n0.jpg,a\n", ": duplicate column 'path' in its header"),
        ("path,label,\n0.jpg,a,b\n", ", row 1 (line 2): column 3 is 'b' and has no name in the header"),
        (HEAD + "0.jpg,a\x00b\n", ", line 2: cannot be read as CSV (it has a NUL byte"),
        ("path\x00,label\n0.jpg,a\n", ", line 1: cannot be read as CSV (it has a NUL byte"),
        (HEAD.encode() + b"0.jpg,Stra\xdfe\n", ", line 2: cannot be read as CSV (byte 0xdf is not UTF-8, perhaps"),
        ("path,label\n".encode("utf-16-le"), ", line 1: cannot be read as CSV (it has a NUL byte"),
        (
            "path,label\n".encode("utf-16")[:-1],
            ": cannot be read as CSV (not UTF-16, which its byte order mark states)",
        ),
        (b"PK\x03\x04....", ": cannot be read as CSV (it is a zip archive or an Excel workbook; save it as CSV UTF-8)"),
        (b"PAR1....", ": cannot be read as CSV (it is a Parquet file"),
        ("path\n" + "x" * 200_000 + "\n", ", row 1 (line 2): column 'path': a cell has more than 131,072 characters"),
        ('path\n"' + "x" * 200_000 + '"\n', ", row 1 (line 2): column 'path': a cell has more than 131,072 characters"),
        ("path\n" + "x" * 100_000 + "\n", ", row 1: the path has 100,000 characters, more than 4,096"),
        ("path,label\n0.jpg," + '"' + "x\n" * 9_000_000, ", row 1 (line 2): column 'label': a quote is not closed"),
    ],
    ids=str,
)
def test_what_is_not_strict_csv(text: str | bytes, says: str, tmp_path: Path) -> None:
    assert refusal(write(tmp_path, text)).startswith(says)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (HEAD + '0.jpg,"a ""b"" c"\n', {"0.jpg": 'a "b" c'}),
        (HEAD + '0.jpg, "x, y"\n', {"0.jpg": "x, y"}),
        (HEAD + '0.jpg,"two\nlines"\n', {"0.jpg": "two\nlines"}),
        (HEAD + "0.jpg,a,,\n1.jpg,b\n", {"0.jpg": "a", "1.jpg": "b"}),
        ("path,label,,\n0.jpg,a,,\n", {"0.jpg": "a"}),
        (",path,label\n0,0.jpg,a\n1,1.jpg,b\n", {"0.jpg": "a", "1.jpg": "b"}),
        ("\n  \npath,label\n\n0.jpg,a\n \n", {"0.jpg": "a"}),
        ("path,label\r0.jpg,a\r1.jpg,b\r", {"0.jpg": "a", "1.jpg": "b"}),
        (HEAD + "-copy(1).jpg,=1+1\n", {"-copy(1).jpg": "=1+1"}),
        (HEAD + "a\x0bb\u2028c\x85d.jpg,x\n", {"a\x0bb\u2028c\x85d.jpg": "x"}),
        ("path;label\n" + TWO.replace(",", ";"), {"0.jpg": "a", "1.jpg": "b"}),
        ("path\tlabel\n" + TWO.replace(",", "\t"), {"0.jpg": "a", "1.jpg": "b"}),
        ("sep=;\npath;label\n0.jpg;a,b\n", {"0.jpg": "a,b"}),
        ('"sep=|"\r\npath|label\r\n0.jpg|a;b,c\r\n', {"0.jpg": "a;b,c"}),
        ("path;label\n0.jpg;Paris, France\n", {"0.jpg": "Paris, France"}),
        ("path\nx;y.jpg\n", {"x;y.jpg": ""}),
    ],
    ids=str,
)
def test_what_is_read(text: str, wanted: dict[str, str], tmp_path: Path) -> None:
    assert labels(write(tmp_path, text)) == wanted


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_with_a_byte_order_mark(encoding: str, tmp_path: Path) -> None:
    text = "path,label\nä.jpg,Straße 東京\n"
    assert labels(write(tmp_path, text.encode(encoding))) == {"ä.jpg": "Straße 東京"}


@pytest.mark.parametrize("name", ["m.tsv", "m.txt", "m.TSV"])
def test_other_endings_of_text(name: str, tmp_path: Path) -> None:
    assert labels(write(tmp_path, "path\tlabel\n0.jpg\ta\n", name)) == {"0.jpg": "a"}


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("m.csv.gz", "unpack it with gunzip"), ("m.xlsx", "save it as CSV UTF-8"), ("m.json", "Parquet")],
)
def test_tables_that_are_not_read(name: str, remedy: str, tmp_path: Path) -> None:
    assert remedy in refusal(write(tmp_path, "x", name))


def test_the_separator_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "relook")
    source = write(tmp_path, "path;label\n0.jpg;a\n")
    load_catalog(source)
    assert caplog.messages == [f"{source}: cells are separated by semicolons"]


# --- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        *("path,label ", "path,Label", "path,labels", "path , label", "path,class", "Path,LABEL", "file,category"),
        *("image_path,class_name", "File Name,target", "img,Categories", "filepath,classes", "images,label"),
    ],
)
def test_headers_that_differ_are_taken_and_reported(
    header: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write(tmp_path, f"{header}\n{TWO}")
    assert labels(source) == {"0.jpg": "a", "1.jpg": "b"}
    other = [name.strip() for name in header.split(",")] != ["path", "label"]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * other
    if other:
        assert caplog.messages[0].startswith(f"{source}: read column ")


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("path,Label,label", ": columns 'Label' and 'label' may each be 'label'; rename or remove all but one"),
        ("path,class,category", ": columns 'class' and 'category' may each be 'label'"),
        ("file,image,label", ": columns 'file' and 'image' may each be 'path'"),
        ("url,label,x", ": has no column 'path'; its columns are: url, label, x"),
        ("path;x,label,y", ", row 1 (line 2): 1 cell, the header has 2: none for column 'x,label,y'"),
    ],
)
def test_headers_that_are_refused(header: str, says: str, tmp_path: Path) -> None:
    assert refusal(write(tmp_path, f"{header}\n0.jpg,a,b\n")).startswith(says)


def test_a_name_of_its_own_comes_before_a_synonym(tmp_path: Path) -> None:
    assert labels(write(tmp_path, "path,class,label,file\n0.jpg,x,a,y\n")) == {"0.jpg": "a"}


def test_columns_that_are_not_read_are_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "relook")
    source = write(tmp_path, "path,lable,note\n0.jpg,a,b\n1.jpg,a,b\n")
    assert labels(source) == {"0.jpg": "", "1.jpg": ""}
    hint = "if 'lable' is meant to be label, rename it"
    assert caplog.messages == [f"{source}: not read: column 'lable', 'note'; {hint}"]


# --- Parquet ----------------------------------------------------------------------------------------------------------


def parquet(folder: Path, name: str = "m.parquet", **columns: Any) -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / name)
    return str(folder / name)


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()),
        *(pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int8(), pa.large_string()), pa.binary(6)),
    ],
    ids=str,
)
def test_every_type_of_text(kind: pa.DataType, tmp_path: Path) -> None:
    values = ["ä.jpg", "b_.jpg"]  # six bytes each
    column = pa.array([value.encode() for value in values]).cast(pa.binary())
    if pa.types.is_dictionary(kind):
        column = pa.array(values).cast(kind.value_type).dictionary_encode().cast(kind)
    else:
        column = pa.array(values, kind) if "string" in str(kind) else pa.array([v.encode() for v in values], kind)
    assert labels(parquet(tmp_path, path=column, label=column)) == {value: value for value in values}


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (pa.array([7, 8]), ["7", "8"]),
        (pa.array([7.0, None]), ["7", ""]),
        (pa.array([7.0, float("nan")]), ["7", ""]),
        (pa.array([7.5, -0.0]), ["7.5", "0"]),
        (pa.array([True, None]), ["True", ""]),
        (pa.array(["007", None]), ["007", ""]),
        (pa.array([None, None]), ["", ""]),
        (pa.array([7, 7]).dictionary_encode(), ["7", "7"]),
    ],
    ids=str,
)
def test_labels_of_every_kind(column: pa.Array, wanted: list[str], tmp_path: Path) -> None:
    assert list(labels(parquet(tmp_path, path=["0.jpg", "1.jpg"], label=column)).values()) == wanted


@pytest.mark.parametrize("value", [datetime(2024, 1, 1), datetime(2024, 1, 1).date(), [1], {"a": 1}])
def test_what_is_neither_text_nor_number(value: Any, tmp_path: Path) -> None:
    line = refusal(parquet(tmp_path, path=["0.jpg"], label=[value]))
    assert line.startswith(": column 'label' holds no texts but ")
    assert line.endswith("; write it as text")


def test_bytes_of_another_encoding(tmp_path: Path) -> None:
    line = refusal(parquet(tmp_path, path=[b"caf\xe9.jpg"]))
    assert line == ": column 'path' holds bytes that are not UTF-8; write it as text"


def test_headers_of_parquet(tmp_path: Path) -> None:
    assert labels(parquet(tmp_path, **{"File ": ["0.jpg"], "Class": ["a"]})) == {"0.jpg": "a"}
    twice = pa.table([pa.array(["0.jpg"]), pa.array(["1.jpg"])], names=["path", "path"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    assert refusal(str(tmp_path / "twice.parquet")) == ": duplicate column 'path'; rename or remove one"


def test_a_folder_as_spark_writes_it(tmp_path: Path) -> None:
    for number in range(12):
        parquet(tmp_path, f"s.parquet/part-{number:05}.snappy.parquet", path=[f"{number}.jpg"], label=["a"])
    (tmp_path / "s.parquet" / "_SUCCESS").touch()
    (tmp_path / "s.parquet" / ".part-00000.snappy.parquet.crc").touch()
    catalog = load_catalog(str(tmp_path / "s.parquet"))
    assert [record.path for record in catalog] == [f"{number}.jpg" for number in range(12)]
    assert catalog.root == tmp_path.resolve()  # as for a file: the folder that the table is in
    (tmp_path / "s.parquet").rename(tmp_path / "s")
    assert len(load_catalog(str(tmp_path / "s"))) == 12


def test_partitions_are_columns_of_text(tmp_path: Path) -> None:
    parquet(tmp_path, "s.parquet/label=007/part-0.parquet", path=["0.jpg"])
    parquet(tmp_path, "s.parquet/label=Eiffel%20Tower/part-0.parquet", path=["1.jpg"])
    parquet(tmp_path, "s.parquet/label=__HIVE_DEFAULT_PARTITION__/part-0.parquet", path=["2.jpg"])
    assert labels(str(tmp_path / "s.parquet")) == {"0.jpg": "007", "1.jpg": "Eiffel Tower", "2.jpg": ""}


def test_parts_that_do_not_agree(tmp_path: Path) -> None:
    parquet(tmp_path, "s.parquet/part-0.parquet", path=["0.jpg"], label=[7])
    second = parquet(tmp_path, "s.parquet/part-1.parquet", path=["1.jpg"], label=["007"])
    line = "column 'label' holds texts, and numbers in part-0.parquet; write it as text in all files"
    assert refusal(str(tmp_path / "s.parquet")) == f"/part-1.parquet: {line}"
    pq.write_table(pa.table({"path": ["1.jpg"]}), second)
    assert "has no column 'label', which part-0.parquet has" in refusal(str(tmp_path / "s.parquet"))


def test_a_folder_that_spark_did_not_finish(tmp_path: Path) -> None:
    parquet(tmp_path, "s.parquet/part-0.parquet", path=["0.jpg"])
    (tmp_path / "s.parquet" / "_temporary").mkdir()
    assert "Spark has not written all of it" in refusal(str(tmp_path / "s.parquet"))


def test_a_folder_of_photos_beside_tables_is_a_folder(tmp_path: Path) -> None:
    parquet(tmp_path, "photos/m.parquet", path=["0.jpg"])
    (tmp_path / "photos" / "b.jpg").touch()
    assert [record.path for record in load_catalog(str(tmp_path / "photos"))] == ["b.jpg"]


# --- any bytes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_any_bytes_are_read_as_python_reads_them_or_refused(seed: int, tmp_path: Path) -> None:
    source = random.Random(seed)
    outcomes = [check(any_csv(source), tmp_path / "m.csv") for _ in range(250)]
    assert 40 < sum(outcomes) < 210  # both happen
