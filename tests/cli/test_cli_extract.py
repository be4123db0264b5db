"""`relook extract` as a user meets it: layout, increments, failures."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import pyarrow.parquet as pq
import pytest
from cli_helpers import QUICK, document, draw, index, photos, refused, relook, trained

__all__ = ["index", "photos", "trained"]


class TestExtract:
    def test_the_index_is_laid_out_as_designed(self, index: Path) -> None:
        manifest = json.loads((index / "index.json").read_text())
        (part,) = manifest["parts"]
        assert set(part["files"]) == {"catalog", "globals", "locals"}
        table = pq.read_table(index / part["files"]["globals"]["path"])
        assert table.column_names == ["id", "values", "metadata"]
        with h5py.File(index / part["files"]["locals"]["path"]) as file:
            assert file["descriptors"].shape == (40 * 9, 128)
            assert file["offsets"].shape == (41,)
        assert (index / "failures.parquet").is_file()
        assert len(list((index / "runs").glob("2*.json"))) == 1

    def test_a_second_run_does_nothing(self, photos: Path, index: Path) -> None:
        before = json.loads((index / "index.json").read_text())["generation"]
        result = document("extract", "--images", photos, "--index", index, *QUICK)
        assert (result["added"], result["changed"], result["removed"]) == (0, 0, 0)
        assert result["generation"] == before

    def test_added_changed_and_removed_photos(self, tmp_path: Path) -> None:
        for number in range(4):
            draw(tmp_path / "photos" / f"{number}.jpg", number, 0)
        arguments = ("extract", "--images", tmp_path / "photos", "--index", tmp_path / "index", *QUICK)
        assert document(*arguments)["added"] == 4
        draw(tmp_path / "photos" / "9.jpg", 9, 0)
        draw(tmp_path / "photos" / "1.jpg", 1, 5)
        (tmp_path / "photos" / "2.jpg").unlink()
        result = document(*arguments)
        assert (result["added"], result["changed"], result["removed"], result["images"]) == (1, 1, 1, 4)
        hits = document("search", tmp_path / "photos" / "1.jpg", "--index", tmp_path / "index", "--rerank", "none")
        assert hits["queries"][0]["results"][0]["id"] == "1.jpg"
        assert hits["queries"][0]["results"][0]["score"] == pytest.approx(1, abs=1e-4)

    def test_unreadable_photos_are_counted_and_listed(self, tmp_path: Path) -> None:
        draw(tmp_path / "photos" / "good.jpg", 1, 0)
        (tmp_path / "photos" / "empty.jpg").touch()
        (tmp_path / "photos" / "text.png").write_text("not a picture")
        whole = (tmp_path / "photos" / "good.jpg").read_bytes()
        (tmp_path / "photos" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "photos" / "notes.txt").write_text("notes")
        arguments = ("extract", "--images", tmp_path / "photos", "--index", tmp_path / "index", *QUICK)
        result = document(*arguments)
        assert (result["images"], result["failed"], result["ignored"]) == (1, 3, 1)
        failures = pq.read_table(tmp_path / "index" / "failures.parquet").to_pylist()
        assert {row["path"] for row in failures} == {"empty.jpg", "text.png", "cut.jpg"}
        assert all(row["reason"] for row in failures)
        listed = document("info", tmp_path / "index", "--failures")
        assert listed == {"index": str(tmp_path / "index"), "failures": failures}
        shown = relook("info", tmp_path / "index", "--failures", COLUMNS="").stdout
        assert [row["path"] for row in failures if row["path"] in shown and row["reason"] in shown] == [
            row["path"] for row in failures
        ]
        done = relook(*arguments, "--max-failures", 2)
        assert done.returncode == 3
        assert "3 images failed" in done.stderr
        assert relook(*arguments, "--max-failures", 3).returncode == 0

    def test_nothing_readable_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "a.jpg").write_text("no")
        line = refused(1, "extract", "--images", tmp_path / "photos", "--index", tmp_path / "index")
        assert "a.jpg" in line

    def test_random_weights_are_said_aloud(self, photos: Path, tmp_path: Path) -> None:
        random = ["--set", "describe.name=resnet18", "--set", "describe.weights=random"]
        extracted = relook("extract", "--images", photos, "--index", tmp_path / "index", *QUICK, *random)
        assert "random weights" in extracted.stdout
        query = photos.parent / "thing 0" / "view_0.jpg"
        found = relook("search", query, "--index", tmp_path / "index", "--html", tmp_path / "page.html")
        assert "random weights" in found.stdout
        assert "random weights" in (tmp_path / "page.html").read_text()
        measured = relook("evaluate", "--index", tmp_path / "index")
        assert "random weights" in measured.stdout
