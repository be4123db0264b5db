"""An index directory: what is written is read, replaced and deleted, generation by generation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stores_helpers import (
    FITTED,
    ROOT,
    content,
    make_card,
    make_index,
    make_items,
    make_locals,
    one_line,
    same_locals,
    unit_vectors,
)

from pipeline.errors import RelookError
from pipeline.stores import Index, IndexWriter
from pipeline.types import Description, ImageRecord

AWKWARD = [
    "plain",
    "dir/ä ö.jpg",
    "日本/🗼.png",
    'comma, "quote"',
    "line\nbreak\r\nid",
    " spaces ",
    "-1.5",
    "null",
    "[1]",
    "x" * 600,
]


def test_all_that_is_written_is_read(tmp_path: Path, tables: Any) -> None:
    records, descriptions = make_items(AWKWARD, 1, [3, 0, 1, 5, 0, 2, 0, 0, 1, 4])
    records[1] = replace(records[1], bbox=(0.1, 2.0, 1e9, 1 / 3), label="", split="")
    records[2] = replace(records[2], label='ä,"\n', mtime_ns=2**62, size=2**40)
    with IndexWriter(tmp_path) as writer:
        writer.begin(make_card(), FITTED, ROOT, tables)
        writer.add(records[:6], descriptions[:6])
        writer.add(records[6:], descriptions[6:])
    index = Index(tmp_path)
    assert list(index.records.values()) == records
    assert index.card == make_card()
    assert index.manifest.counts == {"images": 10, "parts": 2}
    assert index.image_file(records[0]) == ROOT / "plain.jpg"
    parts = list(index.globals_parts())
    assert [name for part in parts for name in part.ids] == AWKWARD
    written = np.stack([item.vector for item in descriptions])
    assert np.concatenate([part.vectors for part in parts]).tobytes() == written.tobytes()
    assert parts[0].metadata[2] == {"label": 'ä,"\n', "path": "日本/🗼.png.jpg", "split": "val"}
    order = AWKWARD[::-1]
    for name, read in zip(order, index.locals(order), strict=True):
        assert same_locals(read, descriptions[AWKWARD.index(name)].locals)  # type: ignore[arg-type]
    assert index.fitted().keys() == FITTED.keys()
    np.testing.assert_array_equal(index.fitted()["globals.mean"], FITTED["globals.mean"])
    assert index.verify() == []


def test_locals_of_no_image_at_all_and_of_nobody(tmp_path: Path) -> None:
    with IndexWriter(tmp_path) as writer:
        writer.begin(make_card(), {}, ROOT, "parquet")
        writer.add(*make_items(["a", "b"], 1, [0, 0]))
        writer.add(*make_items(["c"], 2))
    index = Index(tmp_path)
    assert [len(item) for item in index.locals(["b", "a"])] == [0, 0]
    assert index.locals(["a"])[0].descriptors.shape == (0, 4)
    assert index.fitted() == {}
    with pytest.raises(RelookError, match=r"no local descriptors of 'c'"):
        index.locals(["a", "c"])
    with pytest.raises(RelookError, match=r"no local descriptors of 'nobody'"):
        index.locals(["nobody"])


def test_locals_are_read_from_more_parts_than_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.stores.index.ragged_hdf5._OPEN_FILES", 2)
    with IndexWriter(tmp_path) as writer:
        writer.begin(make_card(), {}, ROOT, "parquet")
        for number in range(5):
            writer.add(*make_items([f"{number}"], number, [2]))
    order = ["3", "0", "4", "1", "3", "2"]
    with Index(tmp_path).local_store as store:
        for name, read in zip(order, store.read(order), strict=True):
            assert same_locals(read, make_locals(2, 100 * int(name)))


def test_an_id_written_again_replaces_the_old_row_in_one_commit(tmp_path: Path, tables: Any) -> None:
    make_index(tmp_path, tables, ["a", "b", "c"])
    with IndexWriter(tmp_path) as writer:
        before = writer.index.manifest  # type: ignore[union-attr]
        records, descriptions = make_items(["b", "d"], 7, [4, 4])
        writer.add(records, descriptions)
        after = writer.index.manifest  # type: ignore[union-attr]
    assert after.generation == before.generation + 1
    assert [part.deleted for part in after.parts] == [(1,), ()]
    index = Index(tmp_path)
    assert list(index.records) == ["a", "c", "b", "d"]
    assert index.records["b"] == records[0]
    assert [name for part in index.globals_parts() for name in part.ids] == ["a", "c", "b", "d"]
    np.testing.assert_array_equal(list(index.globals_parts())[1].vectors[0], descriptions[0].vector)
    assert same_locals(index.locals(["b"])[0], descriptions[0].locals)  # type: ignore[arg-type]
    assert index.manifest.counts == {"images": 4, "parts": 2}


def test_an_id_of_the_same_run_is_replaced_too(tmp_path: Path) -> None:
    with IndexWriter(tmp_path) as writer:
        writer.begin(make_card(), {}, ROOT, "parquet")
        for seed in (1, 2, 3):
            writer.add(*make_items(["a", f"only {seed}"], seed, [1, 1]))
        assert writer.delete(["a"]) == 1
        assert writer.delete(["a"]) == 0
        writer.add(*make_items(["a"], 9, [1]))
    index = Index(tmp_path)
    assert sorted(index.records) == ["a", "only 1", "only 2", "only 3"]
    assert index.records["a"].mtime_ns == 10**18 + 9


def test_delete_leaves_tombstones_and_counts_what_was_there(tmp_path: Path, tables: Any) -> None:
    make_index(tmp_path, tables, ["a", "b", "c"])
    with IndexWriter(tmp_path) as writer:
        writer.add(*make_items(["d", "e"], 1, [1, 1]))
        generation = writer.index.manifest.generation  # type: ignore[union-attr]
        assert writer.delete(["nobody"]) == 0
        assert writer.index.manifest.generation == generation  # type: ignore[union-attr]
        assert writer.delete(iter(["c", "a", "d", "nobody", "a"])) == 3
    index = Index(tmp_path)
    assert index.manifest.generation == generation + 1
    assert [part.deleted for part in index.manifest.parts] == [(0, 2), (0,)]
    assert sorted(content(index)) == ["b", "e"]
    with pytest.raises(RelookError, match="'a'"):
        index.locals(["a"])


def test_a_part_without_living_rows_goes_and_its_files_with_the_next_writer(tmp_path: Path, tables: Any) -> None:
    old = make_index(tmp_path, tables, ["a", "b"])
    with IndexWriter(tmp_path) as writer:
        writer.add(*make_items(["b", "c"], 1, [1, 1]))
        writer.add(*make_items(["a"], 2, [1]))
    index = Index(tmp_path)
    assert [part.rows for part in index.manifest.parts] == [2, 1]
    assert sorted(content(index)) == ["a", "b", "c"]
    assert old.verify() == []
    with IndexWriter(tmp_path):
        pass
    assert len(old.verify()) == 3
    assert index.verify() == []
    assert {path.name.split(".")[0] for path in tmp_path.glob("*/part-*")} == {p.name for p in index.manifest.parts}


def test_everything_deleted_is_an_empty_index(tmp_path: Path, tables: Any) -> None:
    make_index(tmp_path, tables, ["a", "b"])
    with IndexWriter(tmp_path) as writer:
        assert writer.delete(["a", "b"]) == 2
    index = Index(tmp_path)
    assert (index.records, list(index.globals_parts()), index.verify()) == ({}, [], [])
    assert index.manifest.counts == {"images": 0, "parts": 0}


def test_the_generation_grows_with_every_commit(tmp_path: Path) -> None:
    seen = []
    with IndexWriter(tmp_path) as writer:
        assert writer.index is None
        writer.begin(make_card(), {}, ROOT, "parquet")
        seen.append(Index(tmp_path).manifest.generation)
        for number in range(3):
            writer.add(*make_items([f"{number}"], number))
            seen.append(Index(tmp_path).manifest.generation)
        writer.add([], [])
        writer.delete(["1"])
        seen.append(Index(tmp_path).manifest.generation)
        writer.begin(make_card(), {}, ROOT, "parquet")
    with IndexWriter(tmp_path) as writer:
        writer.begin(make_card(), {}, ROOT, "parquet")
    seen.append(Index(tmp_path).manifest.generation)
    assert seen == [1, 2, 3, 4, 5, 5]


def test_photos_that_moved_are_committed_although_nothing_else_changed(tmp_path: Path) -> None:
    make_index(tmp_path)
    with IndexWriter(tmp_path) as writer:
        writer.begin(make_card(), {}, Path("/elsewhere"), "parquet")
    index = Index(tmp_path)
    assert index.image_file(index.records["a"]) == Path("/elsewhere/a.jpg")


def test_a_reader_sees_its_own_generation_whole_while_a_writer_adds(tmp_path: Path, tables: Any) -> None:
    reader, expected = make_index(tmp_path, tables, ["a", "b", "c"]), content(Index(tmp_path))
    with IndexWriter(tmp_path) as writer:
        writer.add(*make_items(["b", "d"], 5, [2, 2]))
        writer.delete(["a"])
        writer.add(*make_items(["a", "c"], 6, [2, 2]))
        assert content(reader) == expected
    assert reader.verify() == []
    assert content(Index(reader.directory, reader.manifest)) == expected
    assert sorted(content(Index(tmp_path))) == ["a", "b", "c", "d"]


def test_begin_refuses_another_model_and_says_what_differs(tmp_path: Path) -> None:
    before = content(make_index(tmp_path))
    other = make_card(settings={"image": {"size": 128}, "scales": [1.0]}, weights="sha256:12")
    with IndexWriter(tmp_path) as writer, pytest.raises(RelookError) as error:
        writer.begin(other, {}, ROOT, "parquet")
    message = one_line(error)
    assert "settings.image.size: 128 here, 96 there" in message
    assert "weights: 'sha256:12' here" in message
    assert content(Index(tmp_path)) == before


def test_begin_refuses_other_tables(tmp_path: Path) -> None:
    make_index(tmp_path, "parquet")
    with IndexWriter(tmp_path) as writer, pytest.raises(RelookError) as error:
        writer.begin(make_card(), {}, ROOT, "csv")
    assert "its tables are parquet, not csv" in one_line(error)


def test_a_writer_without_begin_writes_nothing(tmp_path: Path) -> None:
    with IndexWriter(tmp_path) as writer:
        for write in (lambda: writer.add(*make_items(["a"])), lambda: writer.delete(["a"])):
            with pytest.raises(RelookError, match="no index here"):
                write()
    assert not (tmp_path / "catalog").exists()


@pytest.mark.parametrize(
    ("ids", "vectors", "said"),
    [
        (["a", "b", "a"], unit_vectors(3), "duplicate id 'a'"),
        (["a"], unit_vectors(1, 5), r"shape \(1, 5\)"),
        (["a", "b"], unit_vectors(1), r"shape \(1, 8\) for 2 ids"),
        (["a", "b"], np.array([[1] * 8, [np.nan] * 8], np.float32), "'b' holds NaN"),
    ],
)
def test_a_part_that_would_not_be_readable_is_refused(tmp_path: Path, ids: Any, vectors: Any, said: str) -> None:
    index = make_index(tmp_path, ids=["before"])
    records = [ImageRecord(name, name) for name in ids]
    with IndexWriter(tmp_path) as writer:
        with pytest.raises(RelookError, match=said):
            writer.add(records, [Description(vector) for vector in vectors])
        with pytest.raises(RelookError, match=said):
            writer.add_vectors(ids, vectors, [{} for _ in ids])
    assert Index(tmp_path).manifest == index.manifest


def test_locals_of_some_images_only_are_refused(tmp_path: Path) -> None:
    make_index(tmp_path, ids=["before"])
    records, descriptions = make_items(["a", "b"], 1, [1, 1])
    descriptions[1] = Description(descriptions[1].vector)
    with IndexWriter(tmp_path) as writer, pytest.raises(RelookError, match="only 1 of 2 images"):
        writer.add(records, descriptions)


def test_a_name_that_is_no_unicode_is_one_clear_error(tmp_path: Path, tables: Any) -> None:
    before = make_index(tmp_path, tables).manifest
    records, descriptions = make_items(["latin-\udce9"], 1)
    with IndexWriter(tmp_path) as writer:
        with pytest.raises(RelookError) as error:
            writer.add(records, descriptions)
        assert "not Unicode" in one_line(error)
        with pytest.raises(RelookError, match="not Unicode"):
            writer.write_failures([("x", "latin-\udce9", "cannot be read")])
    assert Index(tmp_path).manifest == before
    assert list(tmp_path.rglob("*.tmp")) == []
