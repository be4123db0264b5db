"""Look-ups in a column of ids: the first ones search it, later ones have a table of hashes, and both find the same."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stores.index import id_column
from pipeline.stores.index.id_column import IdColumn

names_of = st.lists(st.text(max_size=3), unique=True, max_size=30)


@given(ids=names_of, wanted=st.lists(st.text(st.characters(), max_size=3), max_size=30), cut=st.integers(0, 30))
def test_a_scan_and_a_table_of_hashes_find_the_same(ids: list[str], wanted: list[str], cut: int) -> None:
    chunks = [pa.array(ids[:cut], pa.string()), pa.array(ids[cut:], pa.string())]
    wanted = [*wanted, *ids[::2], *ids[:3], "\ud800"]  # some twice, and what no file can hold
    expected = [ids.index(name) if name in ids else -1 for name in wanted]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(id_column, "_CHUNK_ROWS", 7)
        column = IdColumn(chunks)
        for _ in range(id_column._SCANS):
            assert column.rows_of(wanted).tolist() == expected
        assert "_hashed" not in column.__dict__
        assert column.rows_of(wanted).tolist() == expected
        assert "_hashed" in column.__dict__
    assert column.rows_of([]).shape == (0,)


def test_ranks_of_few_and_of_all_are_those_of_sorted_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [f"{number * 7919 % 1000}" for number in range(1000)]
    rows: Any = np.arange(0, 1000, 3)
    column = IdColumn([pa.array(ids, pa.string())])
    few = id_column.IdRank(column)[rows]
    monkeypatch.setattr(id_column, "_FEW_ROWS", 0)
    many = id_column.IdRank(column)[rows]
    by_name = sorted(rows.tolist(), key=ids.__getitem__)
    assert rows[np.argsort(few)].tolist() == rows[np.argsort(many)].tolist() == by_name


def test_a_look_up_imports_no_pandas() -> None:
    program = (
        "import sys, numpy as np, pyarrow as pa; from pipeline.stores.index.id_column import IdColumn; "
        "ends = pa.py_buffer(np.array([0, 1, 2], np.int32)); "
        "column = IdColumn([pa.Array.from_buffers(pa.string(), 2, [None, ends, pa.py_buffer(b'ab')])]); "
        "assert column.rows_of(['b', 'c']).tolist() == [1, -1]; column.rank; "
        "sys.exit('pandas' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
