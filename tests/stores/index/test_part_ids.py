"""Ids that are read when they are wanted are those of all parts; a first look-up reads only the parts it is about."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flushing import without_flushing
from hypothesis import given, settings
from hypothesis import strategies as st
from stores_helpers import ROOT, make_card, make_items

from pipeline.errors import RelookError
from pipeline.stores import Index, IndexWriter
from pipeline.stores.index import part_ids
from pipeline.stores.index.id_column import IdRank
from pipeline.stores.index.part_ids import PartIds

__all__ = ["without_flushing"]


def write(directory: Path, parts: list[list[str]], deleted: list[str], tables: Any = "parquet") -> Index:
    with IndexWriter(directory) as writer:
        writer.begin(make_card(), {}, ROOT, tables)
        for names in parts:
            writer.add(*make_items(names))
        writer.delete(deleted)
        assert writer.index is not None
        return writer.index


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the parts whose ids were read, sorted by whoever looks."""
    names: list[str] = []
    whole = part_ids.read_id_column

    def read(path: Path) -> Any:
        names.append(path.stem)
        return whole(path)

    monkeypatch.setattr(part_ids, "read_id_column", read)
    return names


@pytest.fixture(params=["parquet", "csv"])
def index(tmp_path: Path, request: pytest.FixtureRequest) -> Index:
    """Ten parts of five images, of which the third part lacks two."""
    parts = [[f"{part}/{row}" for row in range(5)] for part in range(10)]
    return write(tmp_path / "index", parts, ["2/0", "2/3"], request.param)


def test_a_look_up_of_few_rows_reads_their_parts_alone(index: Index, reads: list[str]) -> None:
    parts = [part.name for part in index.manifest.parts]
    ids = index.vector_ids
    assert len(ids) == 48
    assert ids.at(np.array([], np.intp)) == []
    assert reads == []
    wanted = np.array([12, 11, 10, 0, 12, 42])
    names = ["2/4", "2/2", "2/1", "0/0", "2/4", "8/4"]
    assert ids.at(wanted) == names
    assert sorted(reads) == sorted([parts[0], parts[2], parts[8]])
    assert ids.rows_of(names).tolist() == wanted.tolist()
    assert ids.at(np.array([11, 1])) == ["2/2", "0/1"]
    assert [record.id for record in index.find_records(names)] == names
    order = IdRank(ids)[wanted]
    assert wanted[np.argsort(order, kind="stable")].tolist() == [0, 10, 11, 12, 12, 42]
    assert len(reads) == 3
    assert ids.rows_of(["0/0", "9/4", "2/3"]).tolist() == [0, 47, -1]  # one is elsewhere, one is deleted
    assert sorted(reads[3:]) == sorted(parts)
    assert ids.at(np.arange(48)) == [name for part in range(10) for name in living(part)]
    assert len(reads) == 13


def living(part: int) -> list[str]:
    return [f"{part}/{row}" for row in range(5) if (part, row) not in {(2, 0), (2, 3)}]


def test_many_rows_and_rows_of_other_parts_read_all(index: Index, reads: list[str]) -> None:
    ids = PartIds(index.directory, index.manifest.parts, "globals")
    assert ids.at(np.arange(0, 48, 8)) == ["0/0", "1/3", "3/3", "5/1", "6/4", "8/2"]
    assert len(reads) == 10
    ids = PartIds(index.directory, index.manifest.parts, "globals")
    assert ids.at(np.array([3])) == ["0/3"]
    assert ids.at(np.array([47, 3])) == ["9/4", "0/3"]
    assert len(reads) == 10 + 1 + 10


def test_a_table_of_another_length_is_named(index: Index) -> None:
    part, other = index.manifest.parts[4], index.manifest.parts[2]
    path = index.directory / part.files["catalog"].path
    ids = index.vector_ids
    path.write_bytes((index.directory / other.files["catalog"].path).read_bytes())
    assert ids.at(np.array([0])) == ["0/0"]
    longer = write(index.directory / "longer", [["a", "b"]], [], index.manifest.tables)
    path.write_bytes((longer.directory / longer.manifest.parts[0].files["catalog"].path).read_bytes())
    with pytest.raises(RelookError, match="has 2 rows instead of 5; run: relook verify") as raised:
        ids.rows_of(["9/4"])
    assert str(raised.value).startswith(f"{path}: ")
    path.unlink()
    with pytest.raises(RelookError, match=f"{path}: cannot be read"):
        Index(index.directory).vector_ids.at(np.array([20]))


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=8),
    gone=st.sets(st.integers(0, 31), max_size=8),
    calls=st.lists(st.lists(st.integers(0, 31), max_size=5), min_size=1, max_size=4),
    by_name=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_any_order_of_look_ups_finds_what_a_list_does(
    tmp_path_factory: pytest.TempPathFactory, sizes: Any, gone: Any, calls: Any, by_name: Any
) -> None:
    ends = np.cumsum([0, *sizes]).tolist()
    names = [f"é{number * 7 % 32}" for number in range(ends[-1])]
    deleted = [name for number, name in enumerate(names) if number in gone]
    here = [name for name in names if name not in deleted]
    parts = [names[first:last] for first, last in pairwise(ends)]
    index = write(tmp_path_factory.mktemp("ids") / "index", parts, deleted)
    ids = index.vector_ids
    assert len(ids) == len(here)
    for numbers, named in zip(calls, by_name, strict=False):
        rows = [number % len(here) for number in numbers] if here else []
        if named:
            wanted = [here[row] for row in rows] + deleted[:1]
            assert ids.rows_of(wanted).tolist() == rows + [-1] * len(deleted[:1])
        else:
            assert ids.at(np.array(rows, np.intp)) == [here[row] for row in rows]
