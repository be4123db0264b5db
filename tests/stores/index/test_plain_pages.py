"""Vectors read from their places in a Parquet file are those that Parquet's library reads, or it is left to that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import RelookError
from pipeline.stores.index import plain_pages
from pipeline.stores.index.plain_pages import OtherLayoutError, PlainVectors
from pipeline.stores.index.tables import GLOBALS_SCHEMA, stream_globals, write_globals


def vectors_of(count: int, dimension: int) -> Any:
    return np.random.default_rng(count).normal(size=(count, dimension)).astype(np.float32)


def read_plain(path: Path, dimension: int) -> Any:
    return np.concatenate([*PlainVectors(path, dimension).pieces(1000), np.zeros((0, dimension))])


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 3000),
    st.integers(1, 70),
    st.sampled_from([2000, 20_000, 1 << 20]),
    st.sampled_from([100, 777, 1 << 20]),
)
def test_any_shape_is_read_as_by_the_library(
    tmp_path_factory: pytest.TempPathFactory, count: int, dimension: int, page: int, group: int
) -> None:
    path = tmp_path_factory.mktemp("plain") / "part.parquet"
    vectors = vectors_of(count, dimension)
    lists = pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * dimension, pa.array(vectors.reshape(-1)))
    names = pa.array([str(row) for row in range(count)], pa.string())
    table = pa.table([names, lists, pa.array(["{}"] * count, pa.string())], GLOBALS_SCHEMA)
    pq.write_table(table, path, compression="none", use_dictionary=False, data_page_size=page, row_group_size=group)
    np.testing.assert_array_equal(read_plain(path, dimension), vectors)


def test_what_an_index_writes_is_read_plain(tmp_path: Path) -> None:
    path, vectors = tmp_path / "part.parquet", vectors_of(3000, 1280)
    write_globals(path, [f"ä{row}" for row in range(3000)], vectors, [{}] * 3000)
    np.testing.assert_array_equal(read_plain(path, 1280), vectors)
    pieces = list(stream_globals(path, 1280))
    np.testing.assert_array_equal(np.concatenate([piece for _, piece in pieces]), vectors)
    assert [name for ids, _ in pieces for name in ids.to_pylist()] == [f"ä{row}" for row in range(3000)]


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zstd"},
        {"data_page_version": "2.0"},
        {"use_dictionary": ["values.list.element"]},
        {"column_encoding": {"values.list.element": "BYTE_STREAM_SPLIT"}},
        {"use_compliant_nested_type": False},
    ],
    ids=lambda options: next(iter(options)),
)
def test_another_layout_gives_the_same_vectors(tmp_path: Path, options: dict[str, Any]) -> None:
    path, vectors = tmp_path / "part.parquet", vectors_of(500, 7)
    write_globals(path, list(map(str, range(500))), vectors, [{}] * 500)
    pq.write_table(pq.read_table(path), path, **{"compression": "none", "use_dictionary": False, **options})
    np.testing.assert_array_equal(np.concatenate([piece for _, piece in stream_globals(path, 7)]), vectors)


@pytest.mark.parametrize(
    "lists",
    [
        [[1.0, 2, 3], [4.0], [5.0, 6]],
        [[1.0, 2], [3.0, 4], None],
        [[1.0, 2], [], [3.0, 4, 5.0, 6]],
        [[1.0, 2], [3.0, None], [5.0, 6]],
    ],
    ids=["uneven", "null list", "empty list", "null value"],
)
def test_lists_of_other_lengths_are_never_taken_for_vectors(tmp_path: Path, lists: list[Any]) -> None:
    path = tmp_path / "part.parquet"
    table = pa.table([pa.array(["a", "b", "c"]), pa.array(lists, pa.list_(pa.float32())), ["{}"] * 3], GLOBALS_SCHEMA)
    pq.write_table(table, path, compression="none", use_dictionary=False)
    with pytest.raises(OtherLayoutError):
        read_plain(path, 2)
    with pytest.raises(RelookError, match=r"part\.parquet"):
        list(stream_globals(path, 2))


def test_heads_of_equal_parts_are_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their pages differ by the smallest and largest value alone; other levels are looked at again."""
    parsed: list[int] = []
    whole = plain_pages._header_of

    def parse(data: bytes) -> Any:
        parsed.append(len(data))
        return whole(data)

    monkeypatch.setattr(plain_pages, "_header_of", parse)
    plain_pages._known_heads.cache_clear()
    for number in range(3):
        path, vectors = tmp_path / f"{number}.parquet", vectors_of(700 + number // 2, 1021) * (number + 1)
        write_globals(path, list(map(str, range(len(vectors)))), vectors, [{}] * len(vectors))
        np.testing.assert_array_equal(read_plain(path, 1021), vectors)
        assert len(parsed) == [2, 2, 3][number]  # two pages; a row more: another last one
    flat = pa.array(vectors_of(700, 1021).reshape(-1))
    ends = np.arange(701, dtype=np.int32) * 1021
    ends[1] += 1  # as many lists and values, one of them longer, the next one shorter
    table = pa.table(
        [list(map(str, range(700))), pa.ListArray.from_arrays(ends, flat), ["{}"] * 700], names=GLOBALS_SCHEMA.names
    )
    pq.write_table(table.cast(GLOBALS_SCHEMA), path, compression="none", use_dictionary=["id", "metadata"])
    with pytest.raises(OtherLayoutError, match="lists of other lengths"):
        read_plain(path, 1021)


@pytest.mark.parametrize("dimension", [2, 8])
def test_another_dimension_is_refused(tmp_path: Path, dimension: int) -> None:
    path = tmp_path / "part.parquet"
    write_globals(path, ["a", "b"], vectors_of(2, 4), [{}] * 2)
    with pytest.raises(RelookError, match=f"do not have {dimension} values each"):
        list(stream_globals(path, dimension))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_is_an_error_or_has_as_many_vectors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "part.parquet"
    write_globals(path, list(map(str, range(300))), vectors_of(300, 9), [{}] * 300)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    problem = ""
    try:
        rows = sum(len(piece) for _, piece in stream_globals(path, 9))
    except RelookError as error:
        problem, rows = str(error), 300
    assert rows == 300
    assert not problem or str(path) in problem
