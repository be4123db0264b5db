"""Generations of an index: what can be returned to, a change of model beside the old one, folding, and collecting."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flushing import without_flushing
from stores_helpers import FITTED, ROOT, content, make_card, make_index, make_items

from pipeline.errors import RelookError
from pipeline.stores import Index, IndexWriter
from pipeline.stores.index.compaction import fold_parts, small_parts

__all__ = ["without_flushing"]


OTHER = make_card(settings={"image": {"size": 128}, "scales": [1.0]})


def run(directory: Path, seed: int, ids: list[str], gone: tuple[str, ...] = (), keep: int = 3) -> dict[str, Any]:
    """One whole run that writes some images in two parts; returns what the index holds then."""
    with IndexWriter(directory) as writer:
        writer.begin(make_card(), FITTED, ROOT, "parquet")
        writer.add(*make_items(ids[:1], seed, [1] * len(ids[:1])))
        writer.add(*make_items(ids[1:], seed + 100, [2] * len(ids[1:])))
        writer.delete(gone)
        writer.complete(keep)
    return content(Index(directory))


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()} - {".lock"}


class TestEarlier:
    def test_rollback_returns_to_what_each_run_left(self, tmp_path: Path) -> None:
        states = [run(tmp_path, 1, ["a", "b"]), run(tmp_path, 2, ["b", "c"], ("a",)), run(tmp_path, 3, ["d"])]
        generation = Index(tmp_path).manifest.generation
        for state in states[-2::-1]:
            with IndexWriter(tmp_path) as writer:
                writer.rollback()
            index = Index(tmp_path)
            assert content(index) == state
            assert index.verify() == []
            assert index.manifest.complete
            generation += 1
            assert index.manifest.generation == generation
        with IndexWriter(tmp_path) as writer, pytest.raises(RelookError, match="no earlier generation is kept"):
            writer.rollback()
        assert run(tmp_path, 2, ["b", "c"], ("a",)) == states[1]

    def test_a_run_that_did_not_end_goes_back_to_the_last_that_did(self, tmp_path: Path) -> None:
        state = run(tmp_path, 1, ["a", "b"])
        for seed in (2, 3):
            with IndexWriter(tmp_path) as writer:
                writer.add(*make_items([f"{seed}"], seed, [1]))
                assert not writer.index.manifest.complete  # type: ignore[union-attr]
        assert len(Index(tmp_path).manifest.earlier) == 1
        with IndexWriter(tmp_path) as writer:
            writer.rollback()
        assert content(Index(tmp_path)) == state

    def test_a_run_that_changes_nothing_makes_no_generation(self, tmp_path: Path) -> None:
        run(tmp_path, 1, ["a", "b"])
        before, there = Index(tmp_path).manifest, files(tmp_path)
        run(tmp_path, 2, [])
        assert Index(tmp_path).manifest == before
        assert files(tmp_path) == there

    def test_as_many_are_kept_as_were_asked_for(self, tmp_path: Path) -> None:
        counts = []
        for seed in range(6):
            run(tmp_path, seed, ["a", f"{seed}"], keep=3)
            counts.append(len(files(tmp_path)))
        assert len(Index(tmp_path).manifest.earlier) == 2
        # A part of three files more each run, and the same three generations of what was replaced.
        assert np.diff(counts[3:]).tolist() == [3, 3]
        with IndexWriter(tmp_path) as writer:
            removed = writer.collect(1)
        index = Index(tmp_path)
        assert (index.manifest.earlier, index.manifest.complete, index.verify()) == ((), True, [])
        named = {file.path for file in index.manifest.files()}
        assert {name for name in files(tmp_path) if "/" in name} == named
        assert removed.files > 4
        assert removed.bytes > 1000

    def test_a_damaged_generation_is_named_and_nothing_is_lost(self, tmp_path: Path) -> None:
        run(tmp_path, 1, ["a", "b"])
        state = run(tmp_path, 2, ["a", "c"])
        (kept,) = Index(tmp_path).manifest.earlier
        with IndexWriter(tmp_path) as writer:
            old = Index(tmp_path, writer.index.manifest)  # type: ignore[union-attr]
            (part,) = (tmp_path / "globals").glob("part-000002-*")  # of an image that was replaced
            part.write_bytes(part.read_bytes()[:-3])
            with pytest.raises(RelookError, match="is not whole, so nothing was changed") as error:
                writer.rollback()
            assert str(part) in str(error.value)
        assert content(old) == content(Index(tmp_path)) == state
        (tmp_path / kept.path).write_text("{")
        there = files(tmp_path) - {kept.path}
        assert Index(tmp_path).verify() == [f"{tmp_path / kept.path}: 1 bytes instead of {kept.bytes}"]
        with IndexWriter(tmp_path):
            pass
        assert there <= files(tmp_path)
        with IndexWriter(tmp_path) as writer:
            writer.collect(1)
        assert Index(tmp_path).verify() == []
        assert content(Index(tmp_path)) == state

    def test_a_first_generation_is_read_and_goes_on_as_a_second(self, tmp_path: Path) -> None:
        state = content(make_index(tmp_path, ids=["a", "b"]))
        path = tmp_path / "index.json"
        values = json.loads(path.read_text()) | {"format": 1}
        for key in ("complete", "asked", "earlier"):
            del values[key]
        path.write_text(json.dumps(values))
        assert content(Index(tmp_path)) == state
        run(tmp_path, 5, ["c"])
        assert json.loads(path.read_text())["format"] == 2
        with IndexWriter(tmp_path) as writer:
            writer.rollback()
        assert content(Index(tmp_path)) == state


class TestAnotherModel:
    def stage(self, directory: Path, seed: int, ids: list[str], complete: bool = False) -> None:
        with IndexWriter(directory) as writer:
            writer.begin(OTHER, FITTED, ROOT, "parquet", change_model=True)
            writer.add(*make_items(ids, seed, [1] * len(ids)))
            if complete:
                writer.complete(2)

    def test_it_grows_beside_the_old_one_and_then_takes_its_place(self, tmp_path: Path) -> None:
        old = run(tmp_path, 1, ["a", "b"])
        before = Index(tmp_path).manifest
        self.stage(tmp_path, 5, ["a"])
        self.stage(tmp_path, 6, ["b"])
        assert Index(tmp_path).manifest == before
        assert content(Index(tmp_path)) == old
        with IndexWriter(tmp_path) as writer:
            assert list(writer.staged.records) == ["a", "b"]  # type: ignore[union-attr]
        self.stage(tmp_path, 7, ["c"], complete=True)
        index = Index(tmp_path)
        assert index.card == OTHER
        assert index.manifest.generation > before.generation
        assert (sorted(index.records), index.verify(), index.manifest.complete) == (["a", "b", "c"], [], True)
        assert index.fitted().keys() == FITTED.keys()
        assert not (tmp_path / "next.json").exists()
        with IndexWriter(tmp_path) as writer:
            writer.rollback()
        assert content(Index(tmp_path)) == old
        assert Index(tmp_path).card == make_card()

    def test_the_old_model_goes_on_meanwhile(self, tmp_path: Path) -> None:
        run(tmp_path, 1, ["a", "b"])
        self.stage(tmp_path, 5, ["a"])
        with IndexWriter(tmp_path) as writer:
            writer.add(*make_items(["z"], 9, [1]))
            writer.complete(2)
            writer.rollback()
            assert writer.staged is not None
        self.stage(tmp_path, 6, ["b"], complete=True)
        assert sorted(Index(tmp_path).records) == ["a", "b"]
        assert Index(tmp_path).verify() == []

    def test_a_third_model_begins_anew_and_the_old_one_ends_it(self, tmp_path: Path) -> None:
        run(tmp_path, 1, ["a", "b"])
        self.stage(tmp_path, 5, ["a"])
        third = replace(OTHER, architecture="third")
        with IndexWriter(tmp_path) as writer:
            writer.begin(third, {}, ROOT, "parquet", change_model=True)
            assert writer.index.records == {}  # type: ignore[union-attr]
            assert writer.index.card == third  # type: ignore[union-attr]
        run(tmp_path, 2, [])
        assert not (tmp_path / "next.json").exists()
        with IndexWriter(tmp_path):
            pass
        named = {file.path for file in Index(tmp_path).manifest.files()}
        assert {name for name in files(tmp_path) if "/part-" in name or "model/" in name} == named

    def test_a_change_that_was_done_when_its_process_was_killed_leaves_nothing(self, tmp_path: Path) -> None:
        run(tmp_path, 1, ["a", "b"])
        self.stage(tmp_path, 5, ["a"])
        staged = (tmp_path / "next.json").read_bytes()
        self.stage(tmp_path, 5, ["b"], complete=True)
        state = content(Index(tmp_path))
        (tmp_path / "next.json").write_bytes(staged)
        with IndexWriter(tmp_path) as writer:
            assert writer.staged is None
        assert not (tmp_path / "next.json").exists()
        assert content(Index(tmp_path)) == state


class TestRevise:
    def test_words_change_and_descriptors_stay(self, tmp_path: Path, tables: Any) -> None:
        make_index(tmp_path, tables, ["a", "b", "c"])
        with IndexWriter(tmp_path) as writer:
            writer.add(*make_items(["d", "e"], 4, [3, 1]))
        before, index = content(Index(tmp_path)), Index(tmp_path)
        locals_ = {path.name for path in (tmp_path / "locals").iterdir()}
        moved = replace(index.records["a"], id="new/a", path="new/a.jpg")
        labelled = replace(index.records["d"], label="ä")
        touched = replace(index.records["b"], mtime_ns=5)
        with IndexWriter(tmp_path) as writer:
            generation = writer.index.manifest.generation  # type: ignore[union-attr]
            writer.revise({"a": moved, "d": labelled, "b": touched}, gone=["c", "nobody"])
            assert writer.index.manifest.generation == generation + 1  # type: ignore[union-attr]
        after = Index(tmp_path)
        assert after.verify() == []
        assert after.records == {"new/a": moved, "b": touched, "d": labelled, "e": index.records["e"]}
        assert list(after.records) == ["new/a", "b", "d", "e"]
        now = content(after)
        for name, old in {"new/a": "a", "b": "b", "d": "d", "e": "e"}.items():
            assert now[name][1] == before[old][1]
            assert now[name][3:] == before[old][3:]
        assert dict(now["d"][2])["label"] == "ä"
        assert dict(now["new/a"][2])["path"] == "new/a.jpg"
        assert {path.name for path in (tmp_path / "locals").iterdir()} == locals_
        with IndexWriter(tmp_path) as writer:
            writer.add(*make_items(["new/a"], 8, [1]))
        assert content(Index(tmp_path))["new/a"][1] != now["new/a"][1]

    def test_two_images_may_change_places(self, tmp_path: Path, tables: Any) -> None:
        index = make_index(tmp_path, tables, ["a", "b", "c"])
        before, records = content(index), index.records
        with IndexWriter(tmp_path) as writer:
            writer.revise({"a": replace(records["a"], id="b"), "b": replace(records["b"], id="a")}, gone=["c"])
        now = content(Index(tmp_path))
        assert (now["a"][1], now["b"][1]) == (before["b"][1], before["a"][1])

    def test_only_times_change_only_the_catalog(self, tmp_path: Path, tables: Any) -> None:
        index = make_index(tmp_path, tables, ["a", "b"])
        with IndexWriter(tmp_path) as writer:
            writer.revise({"a": replace(index.records["a"], mtime_ns=7)})
        (old,), (new,) = index.manifest.parts, Index(tmp_path).manifest.parts
        assert [kind for kind in old.files if old.files[kind] != new.files[kind]] == ["catalog"]

    @pytest.mark.parametrize("name", ["b", "c"])
    def test_one_id_for_two_images_is_refused(self, tmp_path: Path, name: str) -> None:
        index = make_index(tmp_path, ids=["a", "b", "c"])
        changes = {"a": replace(index.records["a"], id=name), "c": index.records["c"]}
        with IndexWriter(tmp_path) as writer, pytest.raises(RelookError, match="two images would have one id"):
            writer.revise(changes)
        assert Index(tmp_path).manifest == index.manifest


class TestFolding:
    def test_small_parts_become_few_and_nothing_else_changes(self, tmp_path: Path, tables: Any) -> None:
        with IndexWriter(tmp_path) as writer:
            writer.begin(make_card(), FITTED, ROOT, tables)
            for number in range(12):
                writer.add(*make_items([f"{number}/{row}" for row in range(1 + number % 4)], number, None))
            writer.add(*make_items([f"x{row}" for row in range(10)], 50, None))
            writer.delete(["3/1", "3/2", "x3"])
            writer.complete(2)
            before = plain(writer)
            assert small_parts(writer.index.manifest.parts, 10) == 12  # type: ignore[union-attr]
            assert fold_parts(writer, 10, tombstones=False) > 0
            assert plain(writer) == before
            assert any(part.deleted for part in writer.index.manifest.parts)  # type: ignore[union-attr]
            fold_parts(writer, 10)
            assert plain(writer) == before
            parts = writer.index.manifest.parts  # type: ignore[union-attr]
            assert all(not part.deleted for part in parts)
            assert len(parts) == 4
            assert fold_parts(writer, 10) == 0
        index = Index(tmp_path)
        assert index.verify() == []
        # Folding says nothing new: it takes the place of the generation, and is none to go back to.
        assert (index.manifest.complete, index.manifest.earlier) == (True, ())

    def test_locals_and_maps_are_folded_bit_for_bit(self, tmp_path: Path) -> None:
        maps = (np.arange(12, dtype=np.float16).reshape(3, 2, 2), np.ones((3, 1, 1), np.float16))
        with IndexWriter(tmp_path) as writer:
            writer.begin(make_card(), FITTED, ROOT, "parquet")
            for number in range(3):
                records, descriptions = make_items([f"{number}a", f"{number}b"], number, [number, 3])
                described = [replace(item, maps=(maps[0] * number, maps[1])) for item in descriptions]
                writer.add(records, described)
            before = content(writer.index)  # type: ignore[arg-type]
            fold_parts(writer, 100)
            index = writer.index
            assert index is not None
            assert content(index) == before
            assert len(index.manifest.parts) == 1
            np.testing.assert_array_equal(index.maps(["2b"])[0][0], maps[0] * 2)

    def test_parts_of_other_kinds_stay_apart(self, tmp_path: Path) -> None:
        with IndexWriter(tmp_path) as writer:
            writer.begin(make_card(), FITTED, ROOT, "parquet")
            for number in range(3):
                writer.add(*make_items([f"{number}"], number, [2] if number else None))
            vectors = np.eye(8, dtype=np.float32)[:1]
            writer.add_vectors(["alone"], vectors, [{}])
            fold_parts(writer, 100)
            index = writer.index
        assert index is not None
        assert [sorted(part.files) for part in index.manifest.parts] == [
            ["catalog", "globals"],
            ["catalog", "globals", "locals"],
            ["globals"],
        ]


def plain(writer: IndexWriter) -> list[Any]:
    """Records, vectors and metadata in their order."""
    index = writer.index
    assert index is not None
    tables = list(index.globals_parts())
    ids = [name for table in tables for name in table.ids]
    assert list(index.records) == ids
    return [index.records, [table.vectors[row].tobytes() for table in tables for row in range(len(table))]]
