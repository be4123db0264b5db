"""Tables: Parquet and CSV give back bit for bit what was written, and refuse everything else in one line."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.errors import RelookError
from pipeline.stores.index.tables import (
    GLOBALS_SCHEMA,
    read_globals,
    read_ids,
    read_records,
    write_globals,
    write_records,
    write_table,
)
from pipeline.types import ImageRecord

EDGES = [0.0, -0.0, 1e-45, -1e-45, 1.1754942e-38, 3.4028235e38, -3.4028235e38, 1 / 3, 16777217.0, 0.1, 1e-7, 1.0]

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
vectors_of = st.tuples(st.integers(0, 6), st.integers(1, 5)).flatmap(
    lambda s: hnp.arrays(np.float32, s, elements=finite)
)
text = st.text(max_size=30)
whole = st.integers(0, 2**63 - 1)
number = st.floats(allow_nan=False, allow_infinity=False)
record = st.builds(
    ImageRecord,
    id=text,
    path=text,
    label=text,
    split=text,
    bbox=st.none() | st.tuples(number, number, number, number),
    width=whole,
    height=whole,
    size=whole,
    mtime_ns=whole,
    sha256=text,
)


@pytest.fixture(params=["parquet", "csv"])
def ending(request: pytest.FixtureRequest) -> Any:
    return request.param


def written(ending: str, write: Any, read: Any) -> Any:
    """What `read` finds in a file of this ending that `write` wrote."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"part.{ending}"
        write(path)
        return read(path)


@settings(max_examples=60, deadline=None)
@given(vectors=vectors_of)
@example(vectors=np.array([EDGES], np.float32))
@example(vectors=np.zeros((0, 3), np.float32))
def test_vectors_come_back_bit_for_bit(vectors: Any) -> None:
    ids = [str(row) for row in range(len(vectors))]
    for kind in ("parquet", "csv"):
        table = written(
            kind,
            lambda path: write_globals(path, ids, vectors, [{}] * len(ids)),
            lambda path: read_globals(path, vectors.shape[1]),
        )
        assert table.vectors.dtype == np.float32
        assert table.vectors.shape == vectors.shape
        assert table.vectors.tobytes() == vectors.tobytes()


def test_random_bits_come_back_bit_for_bit(tmp_path: Path, ending: str) -> None:
    bits = np.random.default_rng(5).integers(0, 2**32, 60_000, dtype=np.uint32)
    values = bits.view(np.float32)
    vectors = values[np.isfinite(values)][:50_000].reshape(-1, 5)
    ids = [str(row) for row in range(len(vectors))]
    path = tmp_path / f"part.{ending}"
    write_globals(path, ids, vectors, [{}] * len(ids))
    table = read_globals(path, 5)
    assert table.ids == ids
    assert table.vectors.tobytes() == vectors.tobytes()


@settings(max_examples=40, deadline=None)
@given(ids=st.lists(text, max_size=6), key=text, value=text)
@example(
    ids=["", "null", "NA", "nan", '"', "a\r\nb", "\r", "\0", ",", "[1]", " ", "\ufeff", "é", "é", "🗼"],
    key="",
    value="",
)
def test_ids_and_metadata_are_any_text(ids: list[str], key: str, value: str) -> None:
    vectors = np.ones((len(ids), 2), np.float32)
    for kind in ("parquet", "csv"):
        write = lambda path: write_globals(path, ids, vectors, [{key: value}] * len(ids))  # noqa: E731
        table = written(kind, write, lambda path: read_globals(path, 2))
        assert table.ids == ids
        assert table.metadata == [{key: value}] * len(ids)
        assert written(kind, write, read_ids) == ids


@settings(max_examples=40, deadline=None)
@given(records=st.lists(record, max_size=4))
def test_records_come_back_equal(records: list[ImageRecord]) -> None:
    for kind in ("parquet", "csv"):
        assert written(kind, lambda path: write_records(path, records), read_records) == records
        assert written(kind, lambda path: write_records(path, records), read_ids) == [r.id for r in records]


def test_a_box_of_numpy_numbers_is_written_as_numbers(tmp_path: Path, ending: str) -> None:
    box: Any = tuple(np.array([0.5, 1, 2, 3.25], np.float32))
    path = tmp_path / f"part.{ending}"
    write_records(path, [ImageRecord("a", "a", bbox=box)])
    assert read_records(path)[0].bbox == (0.5, 1.0, 2.0, 3.25)


def test_a_globals_part_has_the_columns_of_a_bulk_import(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    write_globals(path, ["a"], np.ones((1, 3), np.float32), [{"label": "ü", "a": "1"}])
    schema = pq.read_schema(path)
    assert schema.names == ["id", "values", "metadata"]
    assert [schema.field(name).type for name in schema.names] == [pa.string(), pa.list_(pa.float32()), pa.string()]
    row = pq.read_table(path).to_pylist()[0]
    assert row == {"id": "a", "values": [1.0, 1.0, 1.0], "metadata": '{"a": "1", "label": "ü"}'}
    assert json.loads(row["metadata"]) == {"label": "ü", "a": "1"}


def test_the_spelling_of_csv(tmp_path: Path) -> None:
    path = tmp_path / "part.csv"
    write_globals(path, ["a,b"], np.array([[1.5, -0.25, 1e-7, 0.1, -0.0]], np.float32), [{"label": 'a "b"'}])
    assert path.read_text() == (
        '"id","values","metadata"\n"a,b","[1.5,-0.25,1e-7,0.1,-0]","{""label"": ""a \\""b\\""""}"\n'
    )


def test_a_temporary_ending_does_not_change_the_format(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"part.{ending}.12.tmp"
    write_globals(path, ["a"], np.ones((1, 3), np.float32), [{}])
    assert path.read_bytes().startswith(b"PAR1") == (ending == "parquet")
    assert read_globals(path, 3).ids == ["a"]


def test_large_parts_are_written_and_read_in_blocks(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stores.index.tables._ROWS_AT_ONCE", 7)
    vectors = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    path = tmp_path / f"part.{ending}"
    write_globals(path, [str(row) for row in range(100)], vectors, [{"n": str(row)} for row in range(100)])
    table = read_globals(path, 3)
    assert table.vectors.tobytes() == vectors.tobytes()
    assert table.metadata[99] == {"n": "99"}


def test_a_part_that_a_table_cannot_count_is_refused(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stores.index.tables._MOST_VALUES", 5)
    with pytest.raises(RelookError, match="too many for one part"):
        write_globals(tmp_path / f"part.{ending}", ["a", "b"], np.ones((2, 3), np.float32), [{}, {}])


def refused(path: Path, read: Any) -> str:
    with pytest.raises(RelookError) as error:
        read(path)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def globals_of_4(path: Path) -> Any:
    return read_globals(path, 4)


@pytest.mark.parametrize("dimension", [1, 3, 5, 8])
def test_another_dimension_is_refused(tmp_path: Path, ending: str, dimension: int) -> None:
    path = tmp_path / f"part.{ending}"
    write_globals(path, ["a", "b"], np.ones((2, dimension), np.float32), [{}, {}])
    assert "do not have 4 values" in refused(path, globals_of_4)


@pytest.mark.parametrize(
    "rows",
    [
        [[1.0] * 3, [1.0] * 5],  # together as many as two right ones
        [[1.0] * 4, []],
        [[1.0] * 3 + [None], [1.0] * 4],
        [None, [1.0] * 8],
    ],
)
def test_ragged_and_empty_vectors_are_refused(tmp_path: Path, rows: Any) -> None:
    path = tmp_path / "part.parquet"
    pq.write_table(pa.table([["a", "b"], rows, ["{}", "{}"]], schema=GLOBALS_SCHEMA), path)
    refused(path, globals_of_4)


@pytest.mark.parametrize("cell", ["[1,2,3]", "[1,2,3,x]", "[]", "", "1 2 3 4", "[1,2,3,4],[1]", "[1,2,,4]", "{}"])
def test_csv_vectors_that_are_none_are_refused(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "part.csv"
    path.write_text(f'id,values,metadata\na,"{cell}",{{}}\n')
    refused(path, globals_of_4)


def test_csv_by_another_hand_is_read(tmp_path: Path) -> None:
    path = tmp_path / "part.csv"
    path.write_text('more,metadata,id,values\n1,{},a,"[ 1, -0.5 ,1e3, 2 ]"\r\n2,"{""k"": ""v""}",b,"[0,0,0,1]"\n')
    table = read_globals(path, 4)
    assert table.ids == ["a", "b"]
    assert table.metadata == [{}, {"k": "v"}]
    assert table.vectors.tolist() == [[1, -0.5, 1000, 2], [0, 0, 0, 1]]


def test_parquet_by_another_hand_is_read(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    columns = {
        "metadata": pa.array(['{"k": "v"}', "{}"], pa.large_string()),
        "values": pa.array([[1.0, 2, 3, 4], [5, 6, 7, 8]], pa.list_(pa.float64(), 4)),
        "other": [1, 2],
        "id": pa.array(["b", "a"]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), path)
    table = read_globals(path, 4)
    assert table.ids == ["b", "a"]
    assert table.vectors.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize("read", [globals_of_4, read_records, read_ids])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"PAR1",
        b"PAR1" + b"x" * 40 + b"PAR1",
        b"\x89PNG\r\n\x1a\n" * 20,
        b"name\nx\n",
        b"id,values,metadata\n\xff\xfe,1,2\n",
        b'id,values,metadata\n"a,1,2\n',
        b"id\n1,2\n",
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, ending: str, read: Any, data: bytes) -> None:
    path = tmp_path / f"part.{ending}"
    path.write_bytes(data)
    refused(path, read)


@pytest.mark.parametrize("read", [globals_of_4, read_records, read_ids])
@pytest.mark.parametrize(
    "columns",
    [
        {"other": ["a"]},
        {"id": [None], "values": [[1.0] * 4], "metadata": ["{}"]},
        {"id": [[1]], "values": [[1.0] * 4], "metadata": ["{}"]},
    ],
)
def test_foreign_columns_are_refused(tmp_path: Path, read: Any, columns: Any) -> None:
    path = tmp_path / "part.parquet"
    pq.write_table(pa.table(columns), path)
    refused(path, read)


@pytest.mark.parametrize("values", [["x"], [1.0], [["x"]]])
def test_vectors_of_another_type_are_refused(tmp_path: Path, values: Any) -> None:
    path = tmp_path / "part.parquet"
    pq.write_table(pa.table({"id": ["a"], "values": values, "metadata": ["{}"]}), path)
    refused(path, globals_of_4)


@pytest.mark.parametrize("metadata", ["", "{", "[]", "null", "1"])
def test_metadata_that_are_no_json_object_are_refused(tmp_path: Path, ending: str, metadata: str) -> None:
    path = tmp_path / f"part.{ending}"
    write_table(path, pa.table([["a"], [[1.0] * 4], [metadata]], schema=GLOBALS_SCHEMA))
    refused(path, globals_of_4)


@pytest.mark.parametrize("box", ["1 2 3", "1 2 3 4 5", "a b c d", "1,2,3,4"])
def test_a_box_that_is_none_is_refused(tmp_path: Path, box: str) -> None:
    path = tmp_path / "part.csv"
    write_records(path, [ImageRecord("a", "a", bbox=(1, 2, 3, 4))])
    path.write_text(path.read_text().replace("1.0 2.0 3.0 4.0", box))
    refused(path, read_records)


def test_every_cut_of_a_file_is_refused_or_a_whole_number_of_rows(tmp_path: Path, ending: str) -> None:
    whole_file = tmp_path / f"whole.{ending}"
    vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_globals(whole_file, ["a", "b", "c"], vectors, [{}] * 3)
    data = whole_file.read_bytes()
    path = tmp_path / f"part.{ending}"
    for length in range(0, len(data), 1 if ending == "csv" else 17):
        path.write_bytes(data[:length])
        try:
            table = read_globals(path, 4)
        except RelookError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert table.vectors.tobytes() == vectors[: len(table.ids)].tobytes()


def test_a_missing_file_is_named(tmp_path: Path, ending: str) -> None:
    for read in (globals_of_4, read_records, read_ids):
        refused(tmp_path / f"part.{ending}", read)


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "id=7" / f"part.{ending}"
    path.parent.mkdir()
    write_globals(path, ["a"], np.ones((1, 4), np.float32), [{}])
    assert globals_of_4(path).ids == ["a"]


def test_other_programs_read_the_csv(tmp_path: Path) -> None:
    path = tmp_path / "part.csv"
    write_globals(path, ["a", "b\nc"], np.ones((2, 2), np.float32), [{"k": "1,2"}, {}])
    table = pacsv.read_csv(path, parse_options=pacsv.ParseOptions(newlines_in_values=True))
    assert table["id"].to_pylist() == ["a", "b\nc"]
    assert [json.loads(cell) for cell in table["values"].to_pylist()] == [[1.0, 1.0], [1.0, 1.0]]
