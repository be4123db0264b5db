"""`relook search`, `train-rerank`, `evaluate` and `upload` as a user meets them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli_helpers import QUICK, document, index, photos, refused, relook, trained

from pipeline.stores import Index

__all__ = ["index", "photos", "trained"]

# These manifests name photos in another folder.
ANYWHERE = ["--set", "catalog.outside=allow"]


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
        result = document(
            "search", one, two, one, tmp_path / "queries.csv", "--index", index, "--rerank", "none", *ANYWHERE
        )
        assert [answer["query"] for answer in result["queries"]] == [str(one), str(two), str(one), str(two)]
        boxed, whole = result["queries"][3]["results"], result["queries"][1]["results"]
        assert boxed[0]["score"] < whole[0]["score"]

    @pytest.mark.parametrize("count", [2, 3])
    def test_shares_one_after_the_other_are_the_whole(self, count: int, photos: Path, index: Path) -> None:
        given = ("search", photos, "--index", index, "--top-k", 3)
        whole = document(*given)["queries"]
        shares = [document(*given, "--shard", f"{number}/{count}") for number in range(1, count + 1)]
        assert [share["shard"] for share in shares] == [f"{number}/{count}" for number in range(1, count + 1)]
        joined = [query for share in shares for query in share["queries"]]
        assert max(len(share["queries"]) for share in shares) == -(-len(whole) // count)
        assert [query["query"] for query in joined] == [query["query"] for query in whole]
        for one, other in zip(joined, whole, strict=True):
            assert [hit["id"] for hit in one["results"]] == [hit["id"] for hit in other["results"]]
            scores = [hit["score"] for hit in other["results"]]
            assert [hit["score"] for hit in one["results"]] == pytest.approx(scores, abs=1e-5)

    def test_a_share_without_queries_ends_well(self, index: Path) -> None:
        given = ("search", "--index", index, "--id", "thing 2/view_1.jpg", "--id", "thing 1/view_0.jpg")
        assert document(*given, "--shard", "1/3")["queries"] == []
        assert len(document(*given, "--shard", "2/3")["queries"]) == 1
        lines = relook(*given, "--shard", "1/3", "--tsv").stdout.splitlines()
        assert len(lines) == 1
        assert "K must be from 1 to N" in refused(2, *given, "--shard", "4/3")
        assert "expected K/N" in refused(2, *given, "--shard", "a")

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

    def test_ids_filters_and_lines_for_programs(self, photos: Path, index: Path) -> None:
        arguments = ("search", "--index", index, "--id", "thing 2/view_1.jpg", "--where", "label=thing 2,thing 3")
        arguments = (*arguments, "--where", 'split="val"', "--top-k", 40)
        result = document(*arguments)
        (query,) = result["queries"]
        labels = {record.label for record in Index(index).records.values() if record.split == "val"}
        assert query["query"] == "thing 2/view_1.jpg"
        assert {hit["label"] for hit in query["results"]} == {"thing 2", "thing 3"} < labels
        assert len(query["results"]) == 4
        least = query["results"][1]["score"]
        done = relook(*arguments, "--min-score", least - 1e-9, "--tsv", COLUMNS="20")
        assert done.returncode == 0, done.stderr
        head, *lines = [line.split("\t") for line in done.stdout.splitlines()]
        assert head == [
            *("query", "rank", "id", "path", "label", "score", "global_rank", "global_score"),
            "superglobal",
        ]
        assert [dict(zip(head, line, strict=True)) for line in lines] == [
            {"query": query["query"], **{name: str(value) for name, value in hit.items()}}
            for hit in query["results"][:2]
        ]

    def test_a_photo_on_stdin_and_a_part_of_one(self, photos: Path, index: Path) -> None:
        path = photos.parent / "thing 2" / "view_1.jpg"
        with path.open("rb") as stream:
            done = relook("search", "-", "--index", index, "--top-k", 1, "--json", stdin=stream)
        (query,) = json.loads(done.stdout)["queries"]
        assert (query["query"], query["results"][0]["path"]) == ("-", str(path))
        boxed = document("search", path, "--bbox", "0,0,64,48", "--index", index, "--rerank", "none")["queries"][0]
        assert 0 < boxed["results"][0]["score"] < 0.999

    def test_names_with_a_colon_are_files_and_urls_are_refused(self, photos: Path, index: Path, tmp_path: Path) -> None:
        for name in ("C:\\x.jpg", "10:30 a.jpg", "grocery:x.jpg"):
            shutil.copy(photos.parent / "thing 2" / "view_1.jpg", tmp_path / name)
        done = relook(
            *("search", "C:\\x.jpg", "10:30 a.jpg", "grocery:x.jpg", "--index", index, "--json", "--top-k", 1),
            cwd=tmp_path,
        )
        assert [query["results"][0]["id"] for query in json.loads(done.stdout)["queries"]] == ["thing 2/view_1.jpg"] * 3
        line = refused(1, "search", "https://example.org/a.jpg", "--index", index)
        expected = (
            "https://example.org/a.jpg: relook reads files and fetches no URLs; download it and give the file or folder"
        )
        assert line == f"relook: {expected}"

    def test_wrong_usage_is_one_line(self, index: Path) -> None:
        for words, line in {
            (): "search: which photos? give a QUERY, or an image of the index with --id",
            ("a.jpg", "--where", "label"): "--where label: expected KEY=VALUE[,VALUE], such as label=cat,dog",
            ("a.jpg", "--bbox", "1,2,x,4"): "--bbox 1,2,x,4: expected X0,Y0,X1,Y1, such as 10,20,300,400",
            ("a.jpg", "--tsv", "--json"): "--tsv and --json cannot be combined",
        }.items():
            assert refused(2, "search", *words, "--index", index) == f"relook: {line}"

    def test_every_stage_on_nothing_but_csv_and_hdf5_with_the_same_ranking_as_parquet(
        self, photos: Path, index: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "index"
        document("extract", "--images", photos, "--index", folder, *QUICK, "--set", "store.kind=csv")
        query = photos.parent / "thing 3" / "view_2.jpg"
        arguments = ("search", query, "--top-k", 40)
        table = document(*arguments, "--index", index)
        text = document(*arguments, "--index", folder, "--store", "csv")
        assert table["queries"] == text["queries"]
        csv = ("--index", folder, "--store", "csv")
        assert document("upload", *csv)["equal"] == document("verify", *csv)["equal"] == 40
        document("train-rerank", "--reranker", "rrt", *csv, "--set", "train_rerank.epochs=1")
        assert document("evaluate", "--rerank", "rrt", *csv)["reranked"]
        kinds = {path.suffix for path in folder.rglob("*") if path.is_file() and "rrt-log" not in path.parts}
        assert kinds - {".json", ".lock", ".onnx", ".safetensors", ""} == {".csv", ".h5"}


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

    def test_unreadable_photos_of_the_ground_truth_are_counted_and_left_out(self, photos: Path, tmp_path: Path) -> None:
        folder = photos.parent
        (tmp_path / "bad.jpg").write_text("bad")
        rows = [f"{folder}/thing {label}/view_{view}.jpg,thing {label}" for label in range(3) for view in range(3)]
        manifest = tmp_path / "labels.csv"
        manifest.write_text("path,label\n" + "\n".join([*rows, f"{tmp_path}/bad.jpg,thing 0"]) + "\n")
        here = ("--images", manifest, "--index", tmp_path / "index", *ANYWHERE)
        document("extract", *here, *QUICK)
        result = document("evaluate", *here, "--rerank", "none")
        assert (result["queries"], result["gallery"], result["failed"]) == (9, 9, 1)

    def test_queries_of_their_own_never_find_themselves(self, photos: Path, index: Path, tmp_path: Path) -> None:
        rows = [f"{photos.parent}/thing {label}/view_0.jpg,thing {label}" for label in range(6)]
        (tmp_path / "queries.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
        here = ("--queries", tmp_path / "queries.csv", "--index", index, *ANYWHERE)
        result = document("evaluate", *here, "--rerank", "none")
        whole = document("evaluate", "--index", index, "--rerank", "none")
        assert result["queries"] == 6
        assert result["gallery"] == whole["gallery"] == 40
        assert result["global"]["mAP"] < 100

    def test_chains(self, index: Path, trained: dict) -> None:
        result = document("evaluate", "--index", index, "--rerank", "superglobal,rrt")
        assert result["rerank"] == ["superglobal", "rrt"]

    def test_the_default_of_an_index_is_used_and_said(self, index: Path, trained: dict) -> None:
        default = index / "rerankers" / "default.json"
        default.write_text('{"chain": ["rrt"]}')
        try:
            done = relook("search", "--id", "thing 2/view_1.jpg", "--index", index, "--json")
            assert json.loads(done.stdout)["rerank"] == ["rrt"]
            assert "re-ranking with rrt, the default of" in done.stderr
        finally:
            default.unlink()

    def test_upload_verifies(self, index: Path) -> None:
        result = document("upload", "--index", index)
        assert (result["added"], result["equal"]) == (0, 40)


class TestFeedback:
    def test_like_and_unlike(self, index: Path) -> None:
        ids = list(Index(index).records)
        liked = document("search", "--index", index, "--like", ids[0], "--like", ids[1], "--rerank", "none")
        (query,) = liked["queries"]
        assert query["query"] == f"like {ids[0]}, {ids[1]}"
        assert {query["results"][0]["id"], query["results"][1]["id"]} == {ids[0], ids[1]}
        plain = document("search", "--index", index, "--id", ids[0], "--top-k", 40, "--rerank", "none")
        moved = document(
            "search", "--index", index, "--id", ids[0], "--unlike", ids[9], "--top-k", 40, "--rerank", "none"
        )
        before = {hit["id"]: hit["score"] for hit in plain["queries"][0]["results"]}
        after = {hit["id"]: hit["score"] for hit in moved["queries"][0]["results"]}
        assert after[ids[9]] < before[ids[9]]

    def test_unlike_alone_is_refused(self, index: Path) -> None:
        assert "give a query" in refused(2, "search", "--index", index, "--unlike", "thing 2/view_1.jpg")
