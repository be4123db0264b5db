"""A writer that is killed at any instant leaves the last committed generation whole, and the next one goes on."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flushing import without_flushing
from stores_helpers import FITTED, ROOT, content, make_card, make_index, make_items, start

from pipeline.errors import RelookError
from pipeline.stores import Index, IndexWriter

__all__ = ["without_flushing"]


ROWS = 3


def part(number: int) -> Any:
    """What belongs in one part; every fourth writes its first image over one of an earlier part."""
    ids = [f"{number:03d}/{row}" for row in range(ROWS)]
    if number % 4 == 3:
        ids[0] = f"{number - 2:03d}/1"
    return make_items(ids, number, [(number + row) % 4 * 30 for row in range(ROWS)])


def expected(parts: int) -> dict[str, Any]:
    """Ids and records of an index that holds the first so many parts."""
    records = {}
    for number in range(parts):
        for record in part(number)[0]:
            records[record.id] = record
    return records


def write_the_rest(connection: Any, directory: Path, tables: Any, parts: int, wait: bool) -> None:
    """Write every part that is not there yet, telling before each which one it is."""
    with IndexWriter(directory) as writer:
        writer.begin(make_card(), FITTED, ROOT, tables)
        for number in range(committed_parts(writer.index), parts):
            connection.send(number)
            writer.add(*part(number))
    connection.send(parts)
    if wait:
        signal.pause()


def committed_parts(index: Index | None) -> int:
    return 0 if index is None else 1 + max((int(name[:3]) for name in index.records if name.endswith("2")), default=-1)


def assert_whole(directory: Path) -> int:
    """Whether the index holds the first so many parts and nothing else; returns how many."""
    index = Index(directory)
    assert index.verify() == []
    parts = committed_parts(index)
    assert index.records == expected(parts)
    vectors = {
        name: vector for table in index.globals_parts() for name, vector in zip(table.ids, table.vectors, strict=True)
    }
    assert vectors.keys() == index.records.keys()
    for number in range(parts):
        for record, description in zip(*part(number), strict=True):
            if index.records[record.id] == record:
                np.testing.assert_array_equal(vectors[record.id], description.vector)
                np.testing.assert_array_equal(index.locals([record.id])[0].xy, description.locals.xy)
    return parts


@pytest.mark.parametrize(("tables", "kills"), [("parquet", 8), ("csv", 4)])
def test_kills_at_random_instants(tmp_path: Path, tables: Any, kills: int) -> None:
    rng = np.random.default_rng(kills)
    parts, reached = 2 * kills, [0]
    for kill in range(kills):
        process, connection = start(write_the_rest, tmp_path / "killed", tables, parts, True)
        target = max(2 * kill + int(rng.integers(0, 2)), reached[-1])
        while connection.recv() < target:
            pass
        process.join(rng.uniform(0, 0.03))  # somewhere in the writing of this part, or of one of the next
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        reached.append(assert_whole(tmp_path / "killed"))
        assert reached[-1] >= min(target, parts)
    assert reached == sorted(reached)
    for name in ("killed", "whole"):
        process, _ = start(write_the_rest, tmp_path / name, tables, parts, False)
        process.join()
        assert process.exitcode == 0
        assert assert_whole(tmp_path / name) == parts
    killed, whole = Index(tmp_path / "killed"), Index(tmp_path / "whole")
    assert content(killed) == content(whole)
    assert list(killed.records) == list(whole.records)
    assert [table.ids for table in killed.globals_parts()] == [table.ids for table in whole.globals_parts()]
    assert files_below(tmp_path / "killed", killed) == set()


def files_below(directory: Path, index: Index) -> set[str]:
    """Files of the parts' folders that this generation does not name, and temporary ones."""
    named = {file.path for file in index.manifest.files()}
    there = {str(path.relative_to(directory)) for path in [*directory.glob("*/*"), *directory.glob("*.tmp")]}
    return there - named


def die_at(step: int) -> None:
    """Have this process killed just before its step-th flush, rename or removal of a file."""
    steps = iter(range(1, step))

    def watched(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(steps, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    os.fsync = watched(lambda descriptor: None)  # a kill, unlike a power cut, loses nothing that was written
    for name in ("replace", "rename", "unlink"):
        setattr(os, name, watched(getattr(os, name)))


def begin_and_die(connection: Any, directory: Path, step: int) -> None:
    die_at(step)
    with IndexWriter(directory) as writer:
        writer.begin(make_card(), FITTED, ROOT, "parquet")
    connection.send("done")


def replace_and_die(connection: Any, directory: Path, step: int) -> None:
    with IndexWriter(directory) as writer:
        die_at(step)
        writer.add(*make_items(["b", "d", "x"], 9, [3, 3, 3]))
        writer.delete(["a"])
        writer.write_failures([("y", "y.jpg", "reason")])
    connection.send("done")


def died(target: Any, directory: Path, step: int) -> bool:
    process, connection = start(target, directory, step)
    process.join()
    try:
        done = connection.recv() == "done"
    except EOFError:
        done = False
    assert process.exitcode == (0 if done else -signal.SIGKILL)
    return not done


def test_a_kill_before_each_step_of_the_first_commit(tmp_path: Path) -> None:
    step = 1
    while died(begin_and_die, tmp_path / f"{step}", step):
        try:
            index = Index(tmp_path / f"{step}")
        except RelookError as error:
            assert "no index here" in str(error)  # noqa: PT017
        else:
            assert (index.verify(), index.manifest.generation) == ([], 1)
        with IndexWriter(tmp_path / f"{step}") as writer:
            writer.begin(make_card(), FITTED, ROOT, "parquet")
        index = Index(tmp_path / f"{step}")
        assert (index.verify(), index.manifest.generation) == ([], 1)
        assert files_below(tmp_path / f"{step}", index) == set()
        step += 1
    assert step > 6


def test_a_kill_before_each_step_of_a_replacement(tmp_path: Path) -> None:
    make_index(tmp_path / "first", ids=["a", "b"], seed=1)
    with IndexWriter(tmp_path / "first") as writer:
        writer.add(*make_items(["c", "d"], 2, [1, 2]))
    shutil.copytree(tmp_path / "first", tmp_path / "replaced")
    with IndexWriter(tmp_path / "replaced") as writer:
        writer.add(*make_items(["b", "d", "x"], 9, [3, 3, 3]))
        after_add = content(Index(tmp_path / "replaced"))
        writer.delete(["a"])
    # Only these three states may ever be seen.
    states = [content(Index(tmp_path / "first")), after_add, content(Index(tmp_path / "replaced"))]
    seen, step = [0], 1
    while True:
        directory = tmp_path / f"{step}"
        shutil.copytree(tmp_path / "first", directory)
        killed = died(replace_and_die, directory, step)
        assert Index(directory).verify() == []
        seen.append(states.index(content(Index(directory))))
        with IndexWriter(directory) as writer:
            assert writer.index is not None
            assert files_below(directory, writer.index) == set()
        shutil.rmtree(directory)
        if not killed:
            break
        step += 1
    assert seen == sorted(seen)
    assert set(seen) == {0, 1, 2}
    assert step > 20
