"""The index directory: what is written is read, by generations, and whatever is wrong with it is said in one line."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
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
    start,
    unit_vectors,
)

from pipeline.errors import LockedError, RelookError
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


def test_verify_names_every_file_that_is_wrong(tmp_path: Path, tables: Any) -> None:
    with IndexWriter(tmp_path) as writer:
        writer.begin(make_card(), FITTED, ROOT, tables)
        writer.add(*make_items(["a", "b"], 1, [2, 2]))
        writer.add(*make_items(["c"], 2, [2]))
    index = Index(tmp_path)
    files = [tmp_path / file.path for file in index.manifest.files()]
    assert len(files) == 7
    damaged, shorter, missing, longer = files[0], files[2], files[4], files[6]
    flip(damaged)
    shorter.write_bytes(shorter.read_bytes()[:-7])
    missing.unlink()
    longer.write_bytes(longer.read_bytes() + b"x")
    wrong = index.verify()
    assert len(wrong) == 4
    assert wrong[0] == f"{damaged}: damaged (its checksum differs)"
    size = index.manifest.files()[2].bytes
    assert wrong[1] == f"{shorter}: {size - 7} bytes instead of {size}"
    assert wrong[2] == f"{missing}: missing"
    assert wrong[3].startswith(f"{longer}: ")


@pytest.mark.parametrize("kind", ["catalog", "globals", "locals", "model"])
@pytest.mark.parametrize("how", ["empty", "shorter", "missing", "other"])
def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path: Path, tables: Any, kind: str, how: str) -> None:
    with IndexWriter(tmp_path) as writer:
        writer.begin(make_card(), FITTED, ROOT, tables)
        writer.add(*make_items(["a", "b"], 1, [2, 2]))
    index = Index(tmp_path)
    (file,) = (tmp_path / kind).iterdir()
    if how == "missing":
        file.unlink()
    else:
        data = file.read_bytes()
        file.write_bytes({"empty": b"", "shorter": data[: len(data) // 2], "other": b"\x89PNG\r\n\x1a\n" * 99}[how])
    read = {
        "catalog": lambda: index.records,
        "globals": lambda: list(index.globals_parts()),
        "locals": lambda: index.locals(["a"]),
        "model": index.fitted,
    }[kind]
    with pytest.raises(RelookError) as error:
        read()
    assert str(file) in one_line(error)


def test_locals_of_a_foreign_file_are_one_clear_error(tmp_path: Path) -> None:
    index = make_index(tmp_path)
    (file,) = (tmp_path / "locals").iterdir()
    with h5py.File(file, "w") as foreign:
        foreign["offsets"] = np.array([0, 1])
    for name in ("a", "c"):
        with pytest.raises(RelookError) as error:
            index.locals([name])
        assert str(file) in one_line(error)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edited(**changes: Any) -> Any:
    def edit(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "cannot be read"),
        (lambda path: path.write_bytes(b"\0" * 500), "cannot be read"),
        (lambda path: path.write_bytes(b"\xff\xfe{}"), "cannot be read"),
        (lambda path: path.write_text("[]"), "index format None"),
        (lambda path: path.write_text("{}"), "index format None"),
        (edited(format=3), "index format 3; this relook reads formats 1 and 2; a newer relook wrote it"),
        (edited(format="2"), "index format '2'"),
        (edited(fingerprint="0123456789abcdef"), "does not have fingerprint 0123456789abcdef"),
        (edited(model={}), "damaged"),
        (edited(model={**make_card().to_json(), "settings": "none"}), "damaged"),
        (edited(model={**make_card().to_json(), "settings": 5}), "damaged"),
        (edited(model={**make_card().to_json(), "name": "other"}), "damaged"),
        (edited(parts=[{"name": "p"}]), "damaged"),
        (edited(tables="orc"), "damaged"),
        (edited(surprise=1), "damaged"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
    ],
)
def test_an_index_json_that_is_wrong_is_one_clear_error(tmp_path: Path, spoil: Any, said: str) -> None:
    make_index(tmp_path)
    spoil(tmp_path / "index.json")
    with pytest.raises(RelookError) as error:
        Index(tmp_path)
    message = one_line(error)
    assert said in message
    assert str(tmp_path / "index.json") in message
    with pytest.raises(RelookError), IndexWriter(tmp_path):
        pass
    # The refused writer has let go of the lock, and has touched nothing.
    shutil.rmtree(tmp_path / "index.json", ignore_errors=True)
    (tmp_path / "index.json").unlink(missing_ok=True)
    assert len(list(tmp_path.glob("*/part-*"))) == 3
    with IndexWriter(tmp_path) as writer:
        assert writer.index is None


def test_no_index_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place, said in [("", "no index here"), ("nowhere", "no index here"), ("file", "cannot be read")]:
        with pytest.raises(RelookError, match=said) as error:
            Index(tmp_path / place)
        assert str(tmp_path / place) in one_line(error)


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


def attempt(connection: Any, directory: Path) -> None:
    try:
        with IndexWriter(directory):
            connection.send(("", 0))
    except RelookError as error:
        connection.send((f"{type(error).__name__}: {error}", error.exit_code))


def hold(connection: Any, directory: Path) -> None:
    with IndexWriter(directory) as writer:
        writer.add(*make_items(["held"], 1, [1]))
        connection.send("held")
        connection.recv()


def test_a_second_writer_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    make_index(tmp_path)
    with IndexWriter(tmp_path):
        process, connection = start(attempt, tmp_path)
        message, code = connection.recv()
        process.join()
        with pytest.raises(LockedError), IndexWriter(tmp_path):
            pass
        assert content(Index(tmp_path))  # readers need no lock
    assert message.startswith(f"LockedError: {tmp_path}: another run holds the lock (pid {os.getpid()} on ")
    assert "\n" not in message
    assert code == 75
    process, connection = start(attempt, tmp_path)
    assert connection.recv() == ("", 0)
    process.join()


def test_the_lock_of_a_killed_process_does_not_block(tmp_path: Path) -> None:
    make_index(tmp_path)
    process, connection = start(hold, tmp_path)
    assert connection.recv() == "held"
    with pytest.raises(LockedError, match=f"pid {process.pid} on "), IndexWriter(tmp_path):
        pass
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with IndexWriter(tmp_path) as writer:
        writer.add(*make_items(["next"], 2, [1]))
    assert sorted(Index(tmp_path).records) == ["a", "b", "c", "held", "next"]


def test_a_failing_writer_lets_go_of_the_lock(tmp_path: Path) -> None:
    make_index(tmp_path)
    with pytest.raises(ZeroDivisionError), IndexWriter(tmp_path):
        raise ZeroDivisionError
    with IndexWriter(tmp_path):
        pass


def test_a_place_that_cannot_be_written_to_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in ("file", "file/below"):
        with pytest.raises(RelookError) as error:
            IndexWriter(tmp_path / place)
        assert str(tmp_path / place) in one_line(error)
    before = make_index(tmp_path / "index").manifest
    shutil.move(tmp_path / "index" / "globals", tmp_path / "moved")
    (tmp_path / "index" / "globals").touch()
    with IndexWriter(tmp_path / "index") as writer, pytest.raises(RelookError) as error:
        writer.add(*make_items(["x"], 1, [1]))
    assert "cannot be written" in one_line(error)
    assert Index(tmp_path / "index").manifest == before


def write_as_nobody(connection: Any, directory: Path) -> None:
    if os.geteuid() == 0:  # who may write anywhere
        os.setuid(65534)
    try:
        with IndexWriter(directory):
            connection.send("written")
    except RelookError as error:
        connection.send(str(error))


def test_a_folder_without_permission_is_one_clear_error() -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "index"
        before = content(make_index(directory))
        Path(folder).chmod(0o755)
        directory.chmod(0o555)
        process, connection = start(write_as_nobody, directory)
        message = connection.recv()
        process.join()
        assert message.startswith(f"{directory}: cannot be written to")
        assert "\n" not in message
        assert content(Index(directory)) == before
        directory.chmod(0o755)


def write_within(connection: Any, directory: Path, limit: int) -> None:
    records, descriptions = make_items([f"{number}" for number in range(300)], 3, [20] * 300)
    with IndexWriter(directory) as writer:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            writer.add(records, descriptions)
            connection.send("written")
        except BaseException as error:
            connection.send(f"{type(error).__name__}: {error}")


@pytest.mark.parametrize("limit", [300, 3000, 9000, 20000])
def test_a_full_disk_is_one_clear_error_and_changes_nothing(tmp_path: Path, tables: Any, limit: int) -> None:
    before = content(make_index(tmp_path, tables))
    process, connection = start(write_within, tmp_path, limit)
    message = connection.recv()
    process.join()
    assert message.startswith("RelookError: ")
    assert "cannot be written" in message
    assert "\n" not in message
    assert content(Index(tmp_path)) == before
    assert Index(tmp_path).verify() == []
    with IndexWriter(tmp_path) as writer:
        writer.add(*make_items(["next"], 2, [1]))
    assert list(tmp_path.rglob("*.tmp")) == []
