"""What ends in one clear line and the exit code of the design."""

from __future__ import annotations

import os
from pathlib import Path

from cli_helpers import QUICK, document, draw, index, photos, refused, relook, trained

__all__ = ["index", "photos", "trained"]


class TestRefusals:
    def test_missing_and_empty_folders(self, tmp_path: Path) -> None:
        assert "no such folder" in refused(1, "extract", "--images", tmp_path / "none")
        assert "holds no images" in refused(1, "extract", "--images", tmp_path)

    def test_an_index_among_the_photos(self, tmp_path: Path) -> None:
        draw(tmp_path / "photos" / "0.jpg", 0, 0)
        for verb in ("extract", "reindex", "shard"):
            words = ("extract", "--shard", "1/2") if verb == "shard" else (verb,)
            line = refused(
                2, *words, "--images", tmp_path / "photos", "--index", f"{tmp_path}/photos/../photos", *QUICK
            )
            assert "this is the folder of the photos" in line
        assert [path.name for path in (tmp_path / "photos").iterdir()] == ["0.jpg"]

    def test_a_manifest_without_path(self, tmp_path: Path) -> None:
        (tmp_path / "m.csv").write_text("url,label\na.jpg,x\n")
        line = refused(1, "extract", "--images", tmp_path / "m.csv")
        assert "no column 'path'" in line

    def test_verbose_shows_where_an_error_arose_but_not_for_wrong_usage(self, tmp_path: Path) -> None:
        for flag in ("-v", "--verbose"):
            assert "Traceback" in relook("info", tmp_path, flag).stderr
        wrong = relook("-v", "info")
        assert (wrong.returncode, wrong.stderr) == (2, "relook: No such option: -v\n")

    def test_no_index(self, photos: Path, tmp_path: Path) -> None:
        assert "no index here" in refused(1, "search", photos, "--index", tmp_path)

    def test_no_such_query(self, index: Path, tmp_path: Path) -> None:
        assert "No such file" in refused(1, "search", tmp_path / "none.jpg", "--index", index)

    def test_an_index_of_another_model(self, photos: Path, index: Path) -> None:
        line = refused(1, "extract", "--images", photos, "--index", index, *QUICK, "--set", "describe.globals.p=3")
        assert "settings.globals.p: 3.0 here, 1.0 there" in line
        query = photos.parent / "thing 0" / "view_0.jpg"
        line = refused(1, "search", query, "--index", index, "--set", "describe.globals.p=3")
        assert "describe.globals.p: 3.0 requested, 1.0 in the index" in line

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
