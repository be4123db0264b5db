"""Files beside an index: leftovers of killed writers go, others stay; failures and reports of runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stores_helpers import (
    FITTED,
    ROOT,
    make_card,
    make_index,
    make_items,
)

from pipeline.stores import Index, IndexWriter


def test_leftovers_are_collected_and_nothing_else_is(tmp_path: Path, tables: Any) -> None:
    with IndexWriter(tmp_path) as writer:
        writer.begin(make_card(), FITTED, ROOT, tables)
        writer.add(*make_items(["a", "b"], 1, [2, 2]))
        writer.write_failures([])
        writer.write_report("extract", {})
    left = [
        f"catalog/part-000003-0a1b2c.{tables}",
        f"catalog/part-000003-0a1b2c.{tables}.4711.tmp",
        f"globals/part-000003-0a1b2c.{tables}",
        "locals/part-000003-0a1b2c.h5",
        "locals/part-1234567-0a1b2c.h5.1.tmp",
        "model/fitted.safetensors.12.tmp",
        "runs/20250101T000000-extract-abcd.json.12.tmp",
        "index.json.12.tmp",
        "next.json.12.tmp",
        "generations/000007.json",
        "generations/000007.json.12.tmp",
        "model/fitted-0123456789abcdef.safetensors",
        "model/fitted.safetensors",
        f"failures.{tables}.12.tmp",
    ]
    own = ["catalog/notes.txt", "model/weights.pt", "globals/other.parquet", "runs/mine.tmp", "photo.tmp", "model/a/b"]
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    for name in left + own:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    with IndexWriter(tmp_path):
        there = {path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock-holder"}
        assert there == before | {tmp_path / name for name in own}
    assert Index(tmp_path).verify() == []


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    index = make_index(tmp_path)
    (tmp_path / "index.json").unlink()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.pt").write_text("precious")
    with IndexWriter(tmp_path) as writer:
        assert writer.index is None
    assert (tmp_path / "model" / "weights.pt").read_text() == "precious"
    assert index.verify() == []


def test_failures_and_reports(tmp_path: Path, tables: Any) -> None:
    from pipeline.stores.index.tables import FAILURES_SCHEMA, read_table

    file = tmp_path / f"failures.{tables}"
    with IndexWriter(tmp_path) as writer:
        writer.begin(make_card(), {}, ROOT, tables)
        writer.write_failures([("id, 1", "a\nb.jpg", 'not "an" image'), ("ü", "ü", "")])
        assert read_table(file, FAILURES_SCHEMA).to_pylist() == [
            {"id": "id, 1", "path": "a\nb.jpg", "reason": 'not "an" image'},
            {"id": "ü", "path": "ü", "reason": ""},
        ]
        writer.write_failures([])
        assert read_table(file, FAILURES_SCHEMA).num_rows == 0
        for number in range(105):
            writer.write_report("extract", {"images": number})
        writer.write_report("extract", {"images": 105}, changed=False)
    reports = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("2*-extract-*.json")]
    assert len(reports) == 100
    assert all(report.keys() == {"verb", "time", "images"} and report["verb"] == "extract" for report in reports)
    assert json.loads((tmp_path / "runs" / "latest.json").read_text())["images"] == 105
