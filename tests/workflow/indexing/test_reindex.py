"""`reindex` does the least that brings an index to the state of the photos, and nothing where nothing changed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stores_helpers import content
from tiny import paint, tiny, tiny_config

from pipeline.errors import RelookError, UsageError
from pipeline.stages.compact import compact
from pipeline.stages.extract import extract
from pipeline.stages.gc import gc
from pipeline.stages.reindex import reindex
from pipeline.stores import Index, IndexWriter
from pipeline.workflow import model_loading as loading
from pipeline.workflow.indexing.changes import find_changes
from pipeline.workflow.indexing.engine import SyncSummary
from pipeline.workflow.indexing.maintenance import rollback
from pipeline.workflow.stop import Stop

__all__ = ["tiny"]
pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Ten photos in two folders, indexed."""
    for number in range(10):
        paint(tmp_path / "photos" / f"{'ab'[number % 2]}" / f"{number}.png", number)
    assert did(reindex(tiny_config(tmp_path))) == {"added": 10}
    return tmp_path


def did(result: SyncSummary) -> dict[str, int]:
    names = ("added", "changed", "moved", "relabelled", "removed", "failed")
    return {name: getattr(result, name) for name in names if getattr(result, name)}


def from_scratch(home: Path, name: str = "scratch", size: int = 320) -> dict[str, Any]:
    config = tiny_config(home, size).model_copy(update={"index": home / name})
    shutil.rmtree(home / name, ignore_errors=True)
    reindex(config)
    return content(Index(home / name))


def assert_as_from_scratch(home: Path) -> None:
    index = Index(home / "index")
    assert index.verify() == []
    assert content(index) == from_scratch(home)


def test_nothing_changed_nothing_done(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(config: Any) -> None:
        raise AssertionError("a network is loaded")

    monkeypatch.setattr("pipeline.workflow.model_loading.new_describer", refuse)
    before = {path: path.stat().st_mtime_ns for path in (home / "index").rglob("*") if path.is_file()}
    result = reindex(tiny_config(home))
    assert (did(result), result.equal, result.model) == ({}, 10, "same")
    after = {path: path.stat().st_mtime_ns for path in (home / "index").rglob("*") if path.is_file()}
    changed = {path.name for path in after if after[path] != before.get(path)}
    assert changed <= {"latest.json", "failures.parquet"}
    assert json.loads((home / "index" / "runs" / "latest.json").read_text())["outcome"] == "done"


def test_added_changed_and_removed(home: Path) -> None:
    photos = home / "photos"
    paint(photos / "a" / "new.png", 50)
    paint(photos / "a" / "0.png", 51)
    (photos / "b" / "1.png").unlink()
    assert did(reindex(tiny_config(home))) == {"added": 1, "changed": 1, "removed": 1}
    assert_as_from_scratch(home)


def test_a_moved_file_keeps_its_descriptors(home: Path) -> None:
    photos, before = home / "photos", content(Index(home / "index"))
    (photos / "c").mkdir()
    (photos / "a" / "0.png").rename(photos / "c" / "0.png")
    # Two photos change places, and a third takes the name of a fourth that is gone.
    (photos / "a" / "2.png").rename(photos / "a" / "x")
    (photos / "a" / "4.png").rename(photos / "a" / "2.png")
    (photos / "a" / "x").rename(photos / "a" / "4.png")
    (photos / "b" / "1.png").replace(photos / "b" / "3.png")
    result = reindex(tiny_config(home))
    assert did(result) == {"moved": 4, "removed": 1}
    after = content(Index(home / "index"))
    for new, old in {"c/0": "a/0", "a/2": "a/4", "a/4": "a/2", "b/3": "b/1"}.items():
        assert after[f"{new}.png"][1] == before[f"{old}.png"][1]
    assert_as_from_scratch(home)
    assert did(reindex(tiny_config(home))) == {}


def test_a_moved_file_whose_place_was_taken(home: Path) -> None:
    photos = home / "photos"
    (photos / "a" / "0.png").rename(photos / "b" / "0.png")
    paint(photos / "a" / "0.png", 77)
    assert did(reindex(tiny_config(home))) == {"added": 1, "moved": 1}
    assert_as_from_scratch(home)


def test_a_label_or_a_time_touches_metadata_only(home: Path) -> None:
    index = Index(home / "index")
    files = {part.files["locals"].path for part in index.manifest.parts}
    os.utime(home / "photos" / "a" / "0.png", ns=(1, 2))
    result = reindex(
        tiny_config(home).model_copy(
            update={"catalog": tiny_config(home).catalog.model_copy(update={"labels": "none"})}
        )
    )
    assert did(result) == {"relabelled": 10}
    now = Index(home / "index")
    assert {part.files["locals"].path for part in now.manifest.parts} == files
    assert {record.label for record in now.records.values()} == {""}
    assert now.records["a/0.png"].mtime_ns == 2
    os.utime(home / "photos" / "a" / "0.png", ns=(1, 3))
    assert (did(result := reindex(tiny_config(home))), result.equal) == ({"relabelled": 10}, 0)
    os.utime(home / "photos" / "a" / "0.png", ns=(1, 4))
    assert (did(result := reindex(tiny_config(home))), result.equal) == ({}, 10)
    assert Index(home / "index").records["a/0.png"].mtime_ns == 4


def test_content_decides_where_size_and_time_lie(home: Path) -> None:
    file = home / "photos" / "a" / "0.png"
    facts, size = file.stat(), file.stat().st_size
    for seed in range(100, 200):
        paint(file, seed)
        if file.stat().st_size == size:
            break
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert file.stat().st_size == size
    assert did(reindex(tiny_config(home))) == {}
    assert did(reindex(tiny_config(home), check_content=True)) == {"changed": 1}
    assert_as_from_scratch(home)


def test_times_of_any_year_are_only_compared(home: Path) -> None:
    for number, year in enumerate((-(10**18), 0, 4 * 10**18)):
        os.utime(home / "photos" / "ab"[number % 2] / f"{number}.png", ns=(year, year))
    assert (did(result := reindex(tiny_config(home))), result.equal) == ({}, 10)
    generation = Index(home / "index").manifest.generation
    assert reindex(tiny_config(home)).generation == generation


def test_a_clock_that_jumps_back_changes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Earlier:
        @staticmethod
        def now(zone: Any) -> Any:
            from datetime import datetime

            return datetime(1999, 1, 1, tzinfo=zone)

    for module in ("commits", "run_reports", "lock"):
        monkeypatch.setattr(f"pipeline.stores.index.{module}.datetime", Earlier)
    generation = Index(home / "index").manifest.generation
    paint(home / "photos" / "a" / "new.png", 60)
    assert did(reindex(tiny_config(home))) == {"added": 1}
    assert Index(home / "index").manifest.generation > generation
    assert Index(home / "index").manifest.updated.startswith("1999")
    rollback(tiny_config(home))
    assert "a/new.png" not in Index(home / "index").records


class TestUnreadable:
    def test_they_are_reported_and_what_was_known_stays(self, home: Path) -> None:
        (home / "photos" / "a" / "0.png").write_bytes(b"no photo")
        (home / "photos" / "a" / "new.png").write_bytes(b"")
        result = reindex(tiny_config(home))
        assert did(result) == {"failed": 2}
        assert sorted(Index(home / "index").failures()) == ["a/0.png", "a/new.png"]
        assert "a/0.png" in Index(home / "index").records
        paint(home / "photos" / "a" / "new.png", 61)
        paint(home / "photos" / "a" / "0.png", 62)
        assert did(reindex(tiny_config(home))) == {"added": 1, "changed": 1}
        assert_as_from_scratch(home)

    def test_a_file_that_vanishes_and_comes_back_is_read_at_the_end(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone, back = home / "photos" / "a" / "new.png", home / "back.png"
        paint(gone, 63)
        real = find_changes

        def then_gone(*arguments: Any, **options: Any) -> Any:
            changes = real(*arguments, **options)
            if (home / "photos" / "a" / "later.png").exists():
                return changes
            gone.rename(back)
            threading.Timer(0.3, back.rename, [gone]).start()
            paint(home / "photos" / "a" / "later.png", 64)
            return changes

        monkeypatch.setattr("pipeline.workflow.indexing.engine.find_changes", then_gone)

        class Late(Stop):
            def until(self, items: Any) -> Any:
                items = list(items)
                if items and not hasattr(self, "first"):
                    self.first = True
                elif items:
                    time.sleep(0.6)  # the second look comes later
                return iter(items)

        assert did(reindex(tiny_config(home), stop=Late())) == {"added": 1}
        assert did(reindex(tiny_config(home))) == {"added": 1}
        assert_as_from_scratch(home)

    def test_a_file_that_grows_is_never_indexed_half(self, home: Path) -> None:
        file = home / "photos" / "a" / "grows.png"
        paint(file, 65)
        done = threading.Event()

        def grow() -> None:
            while not done.is_set():
                with file.open("ab") as stream:
                    stream.write(b"x")
                time.sleep(0.0005)

        thread = threading.Thread(target=grow)
        thread.start()
        try:
            results = [reindex(tiny_config(home)) for _ in range(2)]
        finally:
            done.set()
            thread.join()
        index = Index(home / "index")
        for result in results:
            assert result.failed + result.added + result.changed + result.equal == 11
        record = index.records.get("a/grows.png")
        if record is not None:  # what was indexed is one state of the file, whole
            data = file.read_bytes()[: record.size]
            assert hashlib.sha256(data).hexdigest() == record.sha256
        reindex(tiny_config(home))
        assert_as_from_scratch(home)

    def test_nothing_readable_ends_with_an_error_and_keeps_the_index(self, home: Path) -> None:
        before = content(Index(home / "index"))
        for file in (home / "photos").rglob("*.png"):
            file.write_bytes(b"no")
        with pytest.raises(RelookError, match="none of the 10 images can be read"):
            reindex(tiny_config(home))
        assert content(Index(home / "index")) == before
        latest = json.loads((home / "index" / "runs" / "latest.json").read_text())
        assert (latest["outcome"], "none of the 10" in latest["error"]) == ("failed", True)

    def test_a_folder_that_is_not_mounted_deletes_nothing(self, home: Path) -> None:
        before = content(Index(home / "index"))
        (home / "photos").rename(home / "elsewhere")
        (home / "photos").mkdir()
        with pytest.raises(RelookError, match="holds no images"):
            reindex(tiny_config(home))
        assert content(Index(home / "index")) == before

    @pytest.mark.parametrize("size", [320, 200], ids=["same model", "another model"])
    def test_half_a_drive_that_is_not_mounted_deletes_nothing(self, home: Path, size: int) -> None:
        config = tiny_config(home, size)
        careful = config.model_copy(update={"reindex": config.reindex.model_copy(update={"max_removed": 0.4})})
        before = content(Index(home / "index"))
        (home / "photos" / "b").rename(home / "elsewhere")
        paint(home / "photos" / "a" / "new.png", 66)
        with pytest.raises(RelookError, match=r"5 of 10 images are gone, the first is b/1\.png; mount"):
            reindex(careful)
        assert content(Index(home / "index")) == before
        assert did(reindex(config))["added"] in (1, 6)
        assert Index(home / "index").records.keys() == {f"a/{name}.png" for name in (0, 2, 4, 6, 8, "new")}

    def test_moved_photos_are_not_missed(self, home: Path) -> None:
        config = tiny_config(home)
        careful = config.model_copy(update={"reindex": config.reindex.model_copy(update={"max_removed": 0})})
        (home / "photos" / "b").rename(home / "photos" / "c")
        assert did(reindex(careful)) == {"moved": 5}


class TestModel:
    def test_another_model_takes_over_when_it_is_complete(self, home: Path) -> None:
        old = content(Index(home / "index"))
        stop = Stop()
        calls = iter(range(5))

        class Soon(Stop):
            @property
            def reason(self) -> str:
                return "SIGTERM" if next(calls, None) is None else ""

        result = reindex(tiny_config(home, 200), stop=Soon())
        assert (result.outcome, result.model) == ("stopped", "changing")
        assert content(Index(home / "index")) == old
        staged = json.loads((home / "index" / "next.json").read_text())["counts"]["images"]
        assert 0 < staged < 10
        result = reindex(tiny_config(home, 200), stop=stop)
        assert (result.model, did(result)) == ("changed", {"added": 10 - staged})
        assert content(Index(home / "index")) == from_scratch(home, size=200)
        rollback(tiny_config(home))
        assert content(Index(home / "index")) == old
        assert did(reindex(tiny_config(home))) == {}

    def test_searches_answer_from_the_old_model_meanwhile(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", logger="relook")
        monkeypatch.setattr("pipeline.describe.describer_for_card", lambda card, *others: card)
        index = Index(home / "index")
        with pytest.raises(RelookError, match="made by another model"):
            loading.open_describer(tiny_config(home, 200), index)
        assert reindex(tiny_config(home, 200), stop=Stop(0)).model == "changing"
        assert loading.open_describer(tiny_config(home, 200), index) == index.card
        assert "searches use the present one until then" in caplog.text
        with pytest.raises(RelookError, match="made by another model"):
            loading.open_describer(tiny_config(home, 300), index)

    def test_the_old_configuration_ends_a_change(self, home: Path) -> None:
        with IndexWriter(home / "index") as writer:
            card = replace(writer.index.card, name="other")  # type: ignore[union-attr]
            writer.begin(card, {}, home, "parquet", change_model=True)
        assert (home / "index" / "next.json").exists()
        assert did(reindex(tiny_config(home))) == {}
        assert not (home / "index" / "next.json").exists()

    def test_extract_refuses_another_model_and_says_who_does_not(self, home: Path) -> None:
        with pytest.raises(RelookError, match="relook reindex"):
            extract(tiny_config(home, 200), str(home / "photos"))


class TestOften:
    def test_small_parts_are_folded_and_files_do_not_grow(self, home: Path) -> None:
        counts = []
        for number in range(20):
            paint(home / "photos" / "a" / "0.png", 200 + number)
            reindex(tiny_config(home))
            counts.append(sum(path.is_file() for path in (home / "index").glob("[!r]*/*")))
        assert max(counts[8:]) <= max(counts[:8])
        assert_as_from_scratch(home)

    def test_compact_and_gc(self, home: Path) -> None:
        state = content(Index(home / "index"))
        result = compact(tiny_config(home, part_size=100))
        assert (result.folded, result.parts, content(Index(home / "index"))) == (3, 1, state)
        result = gc(tiny_config(home))
        assert (result.kept, result.files > 0) == (1, True)
        assert Index(home / "index").verify() == []

    def test_a_timeout_ends_between_two_photos(self, home: Path) -> None:
        paint(home / "photos" / "a" / "new.png", 70)
        result = reindex(tiny_config(home), stop=Stop(0))
        assert (result.outcome, result.stopped, did(result)) == ("stopped", "timeout", {})
        assert did(reindex(tiny_config(home))) == {"added": 1}


def test_nobody_says_where_the_photos_are(home: Path) -> None:
    config = tiny_config(home)
    with pytest.raises(UsageError, match=r"catalog\.images"):
        reindex(config.model_copy(update={"catalog": config.catalog.model_copy(update={"images": None})}))


def test_copies_are_photos_of_their_own(home: Path) -> None:
    shutil.copy(home / "photos" / "a" / "0.png", home / "photos" / "a" / "copy.png")
    assert did(reindex(tiny_config(home))) == {"added": 1}
    now = content(Index(home / "index"))
    np.testing.assert_array_equal(now["a/0.png"][1], now["a/copy.png"][1])
