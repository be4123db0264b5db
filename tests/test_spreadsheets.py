"""Cells that spreadsheets would run are escaped in what people open, and are the same texts when relook reads them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.files import escape_formula, unescape_formula
from pipeline.report.evaluation import _csv
from pipeline.stores.index.run_reports import read_failures, write_failures
from pipeline.stores.index.tables import read_records, write_records
from pipeline.types import ImageRecord

ODD = [
    "-copy(1).jpg",
    "=1+1",
    "+49",
    "@SUM(1)",
    "\t=1",
    "'-x",
    "''=x",
    "'",
    "a=b",
    "",
    'q"q',
    "a\nb",
    "x,y",
    " x ",
    "null",
]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd|'/C calc'!A0", "'=cmd|'/C calc'!A0"),
        ("-copy(1).jpg", "'-copy(1).jpg"),
        ("@x", "'@x"),
        ("\t=x", "'\t=x"),
        ("'=x", "''=x"),
        ("'tis.jpg", "'tis.jpg"),
        ("a-b", "a-b"),
    ],
)
def test_what_begins_like_a_formula_gets_an_apostrophe(text: str, cell: str) -> None:
    assert escape_formula(text) == cell


@given(st.text("'=+-@\t\ra", max_size=6))
def test_escaping_can_be_undone(text: str) -> None:
    assert unescape_formula(escape_formula(text)) == text
    assert escape_formula(text)[:1] not in set("=+-@\t\r")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_list_of_failures(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"failures.{ending}"
    write_failures(path, [(name, name, "the file is empty") for name in ODD])
    assert read_failures(path) == ODD
    if ending == "csv":
        rows = list(csv.reader(io.StringIO(path.read_text(), newline="")))
        assert not [cell for row in rows for cell in row if cell[:1] and cell[0] in "=+-@\t\r"]


def test_the_values_of_an_evaluation() -> None:
    row = {"query": "-copy(1).jpg", "global": {"mAP": 1.0}, "reranked": None}
    assert _csv({"global": {"mAP": 100.0}, "per_query": [row]}).splitlines()[1].startswith("'-copy(1).jpg,global")


def test_the_own_tables_of_an_index_hold_texts_as_they_are(tmp_path: Path) -> None:
    records = [ImageRecord(f"{number}{text}", text, text, text) for number, text in enumerate(ODD)]
    records += [ImageRecord(text, text, text) for text in ODD if text]
    write_records(tmp_path / "part.csv", records)
    assert read_records(tmp_path / "part.csv") == records
    rows = csv.reader(io.StringIO((tmp_path / "part.csv").read_text(), newline=""))
    assert "=1+1" in [cell for row in rows for cell in row]
