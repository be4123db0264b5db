"""The command line as a user meets it: subprocesses, exit codes, one-line errors, JSON documents."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
QUICK = ["--set", "describe.image.size=96", "--set", "describe.locals.scales=[1.0]", "--set", "describe.locals.count=9"]
QUICK += ["--set", "describe.globals.scales=[1.0]"]


def relook(*arguments: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "160", **environment},
        timeout=300,
        check=False,
    )


def document(*arguments: object) -> dict:
    done = relook(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def refused(code: int, *arguments: object) -> str:
    """The one line that a refused command ends with."""
    done = relook(*arguments)
    assert done.returncode == code, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def draw(path: Path, label: int, view: int) -> None:
    """A thing of its own shape and colours, seen in another place and light each time."""
    rng = np.random.default_rng((label, view))
    ground = Image.fromarray(rng.integers(60, 190, (6, 8, 3), dtype=np.uint8)).resize((128, 96))
    pen = ImageDraw.Draw(ground)
    x, y, size = int(rng.integers(5, 50)), int(rng.integers(5, 30)), int(rng.integers(45, 60))
    own = np.random.default_rng(label)
    for part in range(5):
        colour = tuple(int(value) for value in own.integers(0, 255, 3))
        left, top = own.random(2) * 0.6
        box = [x + left * size, y + top * size, x + (left + 0.4) * size, y + (top + 0.4) * size]
        (pen.ellipse if (label + part) % 2 else pen.rectangle)(box, fill=colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    ground.save(path, quality=92)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of six things in six views each, and four distractors."""
    folder = tmp_path_factory.mktemp("photos")
    rows = [["path", "label", "split"]]
    for label in range(10):
        for view in range(6 if label < 6 else 1):
            path = f"thing {label}/view_{view}.jpg"
            draw(folder / path, label, view)
            rows.append([path, f"thing {label}" if label < 6 else "", "val" if view > 3 else "train"])
    with (folder / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def index(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index") / "index"
    result = document("extract", "--images", photos, "--index", folder, *QUICK)
    assert (result["images"], result["added"], result["failed"]) == (40, 40, 0)
    return folder


@pytest.fixture(scope="module")
def trained(index: Path) -> dict:
    return document("train-rerank", "--reranker", "rrt", "--index", index, "--set", "train_rerank.epochs=2")


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
        assert len(list((index / "runs").glob("*.json"))) == 1

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


class TestSearch:
    def test_a_document_with_the_promised_keys(self, photos: Path, index: Path) -> None:
        query = photos.parent / "thing 2" / "view_1.jpg"
        result = document("search", query, "--index", index, "--top-k", 3)
        (answer,) = result["queries"]
        assert answer["query"] == str(query)
        assert [hit["rank"] for hit in answer["results"]] == [1, 2, 3]
        best = answer["results"][0]
        assert best["path"] == str(query)
        assert best["label"] == "thing 2"
        assert best["global_rank"] == 1
        assert best["global_score"] == pytest.approx(1, abs=1e-4)

    def test_many_queries_and_manifests_in_order(self, photos: Path, index: Path, tmp_path: Path) -> None:
        one, two = photos.parent / "thing 1" / "view_0.jpg", photos.parent / "thing 0" / "view_0.jpg"
        (tmp_path / "queries.csv").write_text(f"path,label,bbox\n{two},thing 0,10 10 100 90\n")
        result = document("search", one, two, one, tmp_path / "queries.csv", "--index", index, "--rerank", "none")
        assert [answer["query"] for answer in result["queries"]] == [str(one), str(two), str(one), str(two)]
        boxed, whole = result["queries"][3]["results"], result["queries"][1]["results"]
        assert boxed[0]["score"] < whole[0]["score"]

    def test_one_bad_query_among_good_ones(self, photos: Path, index: Path, tmp_path: Path) -> None:
        query = photos.parent / "thing 1" / "view_0.jpg"
        (tmp_path / "bad.jpg").write_text("bad")
        result = document("search", query, tmp_path / "bad.jpg", "--index", index)
        assert len(result["queries"][0]["results"]) == 10
        assert "not a picture" in result["queries"][1]["error"]
        assert relook("search", query, tmp_path / "bad.jpg", "--index", index, "--max-failures", 0).returncode == 3

    def test_a_table_and_a_page(self, photos: Path, index: Path, tmp_path: Path) -> None:
        query = photos.parent / "thing 1" / "view_0.jpg"
        done = relook("search", query, "--index", index, "--html", tmp_path / "page.html")
        assert "view_0.jpg" in done.stdout
        page = (tmp_path / "page.html").read_text()
        assert page.count("data:image/jpeg;base64,") == 11
        assert "http" not in page

    def test_csv_gives_the_same_ranking_as_parquet(self, photos: Path, index: Path, tmp_path: Path) -> None:
        folder = tmp_path / "index"
        document("extract", "--images", photos, "--index", folder, *QUICK, "--set", "store.kind=csv")
        assert not list(folder.rglob("*.parquet"))
        query = photos.parent / "thing 3" / "view_2.jpg"
        arguments = ("search", query, "--top-k", 40)
        table = document(*arguments, "--index", index)
        text = document(*arguments, "--index", folder, "--store", "csv")
        assert table["queries"] == text["queries"]


class TestTrainAndEvaluate:
    def test_the_promised_keys(self, index: Path, trained: dict) -> None:
        assert Path(trained["checkpoint"]) == index / "rerankers" / "rrt.safetensors"
        assert Path(trained["checkpoint"]).is_file()
        assert trained["epochs"] == 2
        assert {"epoch", "mAP"} <= set(trained["best"])
        assert list((index / "rerankers" / "rrt-log").glob("events*"))

    def test_evaluate_before_and_after(self, photos: Path, index: Path, trained: dict) -> None:
        result = document("evaluate", "--images", photos, "--index", index, "--rerank", "rrt")
        assert result["queries"] == 36
        assert result["gallery"] == 40
        for name in ("mAP", "R@1", "R@5", "R@10"):
            assert 0 <= result["global"][name] <= 100
            difference = result["reranked"][name] - result["global"][name]
            assert result["difference"][name] == pytest.approx(difference, abs=0.02)
            assert result["difference"][f"{name}_se"] >= 0

    def test_a_split_and_no_second_look(self, photos: Path, index: Path) -> None:
        result = document("evaluate", "--images", photos, "--split", "val", "--index", index, "--rerank", "none")
        assert (result["queries"], result["gallery"]) == (12, 12)
        assert result["reranked"] is None
        assert result["difference"] is None

    def test_queries_of_their_own_never_find_themselves(self, photos: Path, index: Path, tmp_path: Path) -> None:
        rows = [f"{photos.parent}/thing {label}/view_0.jpg,thing {label}" for label in range(6)]
        (tmp_path / "queries.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
        result = document("evaluate", "--queries", tmp_path / "queries.csv", "--index", index, "--rerank", "none")
        whole = document("evaluate", "--index", index, "--rerank", "none")
        assert result["queries"] == 6
        assert result["gallery"] == whole["gallery"] == 40
        assert result["global"]["mAP"] < 100

    def test_chains(self, index: Path, trained: dict) -> None:
        result = document("evaluate", "--index", index, "--rerank", "superglobal,rrt")
        assert result["rerank"] == ["superglobal", "rrt"]

    def test_upload_verifies(self, index: Path) -> None:
        result = document("upload", "--index", index)
        assert (result["added"], result["equal"]) == (0, 40)


class TestRefusals:
    def test_missing_and_empty_folders(self, tmp_path: Path) -> None:
        assert "no such folder" in refused(1, "extract", "--images", tmp_path / "none")
        assert "holds no images" in refused(1, "extract", "--images", tmp_path)

    def test_a_manifest_without_path(self, tmp_path: Path) -> None:
        (tmp_path / "m.csv").write_text("file,label\na.jpg,x\n")
        line = refused(1, "extract", "--images", tmp_path / "m.csv")
        assert "no column 'path'" in line

    def test_no_index(self, photos: Path, tmp_path: Path) -> None:
        assert "no index here" in refused(1, "search", photos, "--index", tmp_path)

    def test_no_such_query(self, index: Path, tmp_path: Path) -> None:
        assert "No such file" in refused(1, "search", tmp_path / "none.jpg", "--index", index)

    def test_an_index_of_another_model(self, photos: Path, index: Path) -> None:
        line = refused(1, "extract", "--images", photos, "--index", index, *QUICK, "--set", "describe.globals.p=3")
        assert "settings.globals.p: 3.0 here, 1.0 there" in line
        query = photos.parent / "thing 0" / "view_0.jpg"
        line = refused(1, "search", query, "--index", index, "--set", "describe.globals.p=3")
        assert "describe.globals.p: 3.0 asked for, 1.0 in the index" in line

    def test_another_table_format(self, photos: Path, index: Path) -> None:
        line = refused(1, "extract", "--images", photos, "--index", index, *QUICK, "--set", "store.kind=csv")
        assert "its tables are parquet" in line
        query = photos.parent / "thing 0" / "view_0.jpg"
        assert "--set store.kind=csv" in refused(1, "search", query, "--index", index, "--store", "csv")

    def test_labels_missing_where_training_needs_them(self, tmp_path: Path) -> None:
        for number in range(3):
            draw(tmp_path / "photos" / f"{number}.jpg", number, 0)
        document("extract", "--images", tmp_path / "photos", "--index", tmp_path / "index", *QUICK)
        assert "column label" in refused(1, "train-rerank", "--index", tmp_path / "index")
        assert "no labels" in refused(1, "evaluate", "--index", tmp_path / "index")

    def test_a_checkpoint_that_is_missing_or_foreign(self, photos: Path, index: Path, tmp_path: Path) -> None:
        query = photos.parent / "thing 0" / "view_0.jpg"
        (tmp_path / "other.safetensors").write_bytes(b"garbage, not a checkpoint")
        for name, words in (("none.safetensors", "no such checkpoint"), ("other.safetensors", "cannot be read")):
            checkpoint = f"rerank.rrt.checkpoint={tmp_path / name}"
            line = refused(1, "search", query, "--index", index, "--rerank", "rrt", "--set", checkpoint)
            assert words in line

    def test_a_checkpoint_of_another_model(self, photos: Path, trained: dict, tmp_path: Path) -> None:
        other = ["--set", "describe.globals.p=3"]
        document("extract", "--images", photos, "--index", tmp_path / "index", *QUICK, *other)
        checkpoint = f"rerank.rrt.checkpoint={trained['checkpoint']}"
        query = photos.parent / "thing 0" / "view_0.jpg"
        line = refused(1, "search", query, "--index", tmp_path / "index", "--rerank", "rrt", "--set", checkpoint)
        assert "trained on another model's descriptors" in line

    def test_unknown_names_suggest_the_nearest(self, photos: Path, index: Path) -> None:
        query = photos.parent / "thing 0" / "view_0.jpg"
        cases = {
            ("search", query, "--index", index, "--rerank", "superglobl"): "did you mean 'superglobal'",
            ("search", query, "--index", index, "--store", "tabel"): "did you mean 'table'",
            ("search", query, "--index", index, "--set", "search.topk=3"): "did you mean search.top_k",
            ("extract", "--images", photos, "--set", "describe.name=resnet_50"): "did you mean 'resnet50",
            ("evaluate", "--index", index, "--protocol", "label"): "did you mean 'labels'",
            ("extract", "--images", "grocry:somewhere"): "did you mean 'grocery'",
        }
        for arguments, words in cases.items():
            assert words in refused(2, *arguments)

    def test_wrong_usage(self, index: Path) -> None:
        assert relook("serch").returncode == 2
        assert relook("search", "--index", index).returncode == 2
        assert relook("search", "x.jpg", "--top-k", "0").returncode == 2

    def test_cuda_that_is_not_there(self, photos: Path, tmp_path: Path) -> None:
        done = relook("extract", "--images", photos, "--index", tmp_path, "--device", "cuda", CUDA_VISIBLE_DEVICES="")
        assert done.returncode == 1
        assert "no CUDA device" in done.stderr

    def test_a_damaged_index_is_found_by_upload(self, photos: Path, tmp_path: Path) -> None:
        document("extract", "--images", photos, "--index", tmp_path / "index", *QUICK)
        (part,) = (tmp_path / "index" / "locals").glob("*.h5")
        whole = bytearray(part.read_bytes())
        whole[len(whole) // 2] ^= 1
        part.write_bytes(bytes(whole))
        assert "checksum" in refused(1, "upload", "--index", tmp_path / "index")

    def test_another_run_holds_the_lock(self, photos: Path, index: Path) -> None:
        from pipeline.stores import IndexWriter

        with IndexWriter(index):
            line = refused(75, "extract", "--images", photos, "--index", index, *QUICK)
        assert f"pid {os.getpid()}" in line
