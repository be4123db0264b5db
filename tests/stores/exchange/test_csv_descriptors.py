"""CSV of descriptors, in: exact values stay, rounded ones become unit vectors, bad cells are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from exchange_files import bring, listed, refusal, vectors_of
from stores_helpers import unit_vectors

from pipeline.types import FloatArray


@pytest.mark.parametrize(
    "write",
    [
        listed,
        lambda vector: listed(vector).replace(" ", ""),
        lambda vector: np.array2string(vector, threshold=9999),  # spaces and line breaks between the numbers
        lambda vector: " [ " + " ,\n ".join(map(str, vector)) + " ] ",
    ],
    ids=["list", "tight", "numpy", "broken"],
)
def test_lists_in_cells(write: Callable[[FloatArray], str], tmp_path: Path) -> None:
    vectors = unit_vectors(5, 40)
    lines = ["vecid, vectors, labels"] + [f'img_{row},"{write(v)}",class {row % 2}' for row, v in enumerate(vectors)]
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
    result, index = bring(tmp_path, tmp_path / "x.csv")
    assert (result.format, result.images, result.dimension, result.local_dimension) == ("csv", 5, 40, 0)
    assert {name: record.label for name, record in index.records.items()} == {
        f"img_{r}": f"class {r % 2}" for r in range(5)
    }
    assert np.allclose(np.stack([vectors_of(index)[f"img_{row}"] for row in range(5)]), vectors, atol=1e-6)


def test_a_column_a_value(tmp_path: Path) -> None:
    vectors = unit_vectors(5, 12)
    header = ",".join(["label", *(f"dim_{place}" for place in range(12)), "id"])
    lines = [header] + [",".join(["cat", *map(str, vector), f"photo {row}"]) for row, vector in enumerate(vectors)]
    (tmp_path / "wide.csv").write_text("\n".join(lines) + "\n")
    _, index = bring(tmp_path, tmp_path / "wide.csv")
    assert np.allclose(np.stack([vectors_of(index)[f"photo {row}"] for row in range(5)]), vectors, atol=1e-6)
    assert {record.label for record in index.records.values()} == {"cat"}


def test_exact_values_stay_bit_for_bit_and_rounded_ones_become_unit(tmp_path: Path) -> None:
    vectors = unit_vectors(3, 64)
    exact = ["vecid,vectors"] + [f'{row},"{listed(vector)}"' for row, vector in enumerate(vectors)]
    (tmp_path / "x.csv").write_text("\n".join(exact))
    _, index = bring(tmp_path, tmp_path / "x.csv")
    for row, vector in enumerate(vectors):
        assert vectors_of(index)[str(row)].tobytes() == vector.tobytes()
    rounded = ["vecid,vectors"] + [
        f'{row},"{listed(vector.round(4).astype(float))}"' for row, vector in enumerate(vectors)
    ]
    (tmp_path / "y.csv").write_text("\n".join(rounded))
    _, index = bring(tmp_path / "rounded", tmp_path / "y.csv")
    assert all(abs(np.linalg.norm(vector) - 1) < 2e-6 for vector in vectors_of(index).values())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vecid,vectors\na,[1 0]\nb,[1 0 0]\n", "row 2 ('b'): 3 values, row 1 has 2"),
        ("vecid,vectors\na,[1 0]\nb,[]\n", "row 2 ('b'): 0 values, row 1 has 2"),
        ("vecid,vectors\na,[1 nan]\n", "row 1 ('a'): value 2 of its vector is nan"),
        ("vecid,vectors\na,[1 0]\nb,[inf 0]\n", "row 2 ('b'): value 1 of its vector is inf"),
        ("vecid,vectors\na,[1e300 0]\n", "row 1 ('a'): value 1 of its vector is inf"),
        ("vecid,vectors\na,[1 0]\nb,[0 x1]\n", "row 2 ('b'): value 2 is 'x1', not a number"),
        ("vecid,vectors\na,[0.1 0.2 ... 0.3]\n", "row 1 ('a'): value 3 is '...', not a number"),
        ("vecid,vectors\na,1 0\n", "row 1 ('a'): '1 0' is not a list in brackets"),
        ("vecid,vectors\na,[1 0]\nb,[0 1]\na,[0 1]\n", "row 3 ('a'): duplicate id, row 1 has it too"),
        ("vecid,vectors\n ,[1 0]\n", "row 1: its id is empty"),
        ("vecid,vectors\na,[3 4]\n", "row 1 ('a'): its vector has length 5, not 1; --normalise divides by it"),
        ("vecid,vectors\na,[0 0]\n", "row 1 ('a'): its vector has length 0"),
        ("vecid,vectors\na,[1 0],x\n", "row 1 (line 2): 3 cells, the header has 2"),
        ("id,x,y\na,1,0\nb,1,\n", "row 2 ('b'): column y is '', not a number"),
        ("id,label\na,b\n", "no columns of values"),
        (",id,x\n0,a,1\n", "column 1 has no name"),
        ("name,x\na,1\n", "has no column vecid or id; its columns are: name, x"),
        ("vecid,vectors\n", "holds no images"),
        ('vecid,vectors\na,"[1 0]\nb,[0 1]\n', "row 1 (line 2): column 'vectors': a quote is not closed in its line"),
        ("vecid,vectors,vectors\na,[1 0],[1 0]\n", "duplicate column 'vectors'"),
        ("id,ids,x\na,b,1\n", "columns 'id' and 'ids' may each be 'vecid'"),
        ("id,x,y\na,1\n", "row 1 (line 2): 2 cells, the header has 3"),
        ("", "has no column vecid"),
    ],
)
def test_bad_csvs_are_named_by_row_and_value(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text)
    message = refusal(tmp_path, tmp_path / "x.csv")
    assert says in message
    assert message.startswith(str(tmp_path / "x.csv"))


def test_normalising_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('vecid,vectors\na,"[3, 4]"\nb,"[0, 1]"\n')
    _, index = bring(tmp_path, tmp_path / "x.csv", normalise=True)
    assert vectors_of(index)["a"] == pytest.approx([0.6, 0.8])
    (tmp_path / "y.csv").write_text('vecid,vectors\na,"[0, 0]"\n')
    assert "no direction" in refusal(tmp_path / "zero", tmp_path / "y.csv", normalise=True)
