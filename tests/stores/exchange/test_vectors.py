"""`export globals`: every format holds the ids and vectors of the index bit for bit, and the CSV is imported again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from stores_helpers import DIMENSION, ROOT, make_card, make_items

from pipeline.config import load_config
from pipeline.errors import RelookError, UsageError
from pipeline.stages.export_descriptors import export_globals
from pipeline.stages.import_descriptors import import_descriptors
from pipeline.stores import Index, IndexWriter
from pipeline.types import FloatArray

IDS = ["b/é.jpg", 'quote"d.jpg', "comma,.jpg", "=1+1.jpg", "last.jpg"]


@pytest.fixture(params=["parquet", "csv"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Index:
    """Two parts, of which one row is deleted."""
    with IndexWriter(tmp_path / "index") as writer:
        writer.begin(make_card(local_dimension=0), {}, ROOT, request.param)
        writer.add(*make_items(IDS[:3]))
        writer.add(*make_items(["gone.jpg", *IDS[3:]], seed=1))
        writer.delete(["gone.jpg"])
    return Index(tmp_path / "index")


def expected(index: Index) -> FloatArray:
    return np.concatenate([table.vectors for table in index.globals_parts()])


@pytest.mark.parametrize("ending", [".npz", ".npy", ".parquet", ".csv"])
def test_every_format_gives_back_ids_and_vectors(ending: str, index: Index, tmp_path: Path) -> None:
    target = tmp_path / f"out{ending}"
    result = export_globals(load_config(overrides=[f"index={index.directory}"]), target)
    assert (result.images, result.dimension, result.count) == (5, DIMENSION, 0)
    if ending == ".npz":
        with np.load(target) as arrays:
            ids, vectors = arrays["ids"].tolist(), arrays["vectors"]
    elif ending == ".npy":
        ids = (tmp_path / "out.npy.ids.txt").read_text(encoding="utf-8").splitlines()
        vectors = np.load(target)
    elif ending == ".parquet":
        table = pq.read_table(target)
        assert table.column_names == ["id", "path", "label", "vectors"]
        assert table["label"].to_pylist() == [index.records[name].label for name in IDS]
        ids, vectors = table["id"].to_pylist(), np.array(table["vectors"].to_pylist(), np.float32)
    else:
        imported = tmp_path / "imported"
        import_descriptors(load_config(overrides=[f"index={imported}"]), target)
        parts = list(Index(imported).globals_parts())
        ids = [name for part in parts for name in part.ids]
        vectors = np.concatenate([part.vectors for part in parts])
        assert [Index(imported).records[name].label for name in ids] == [index.records[name].label for name in IDS]
    assert ids == IDS
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, expected(index))


def test_another_ending_names_those_that_are_written(index: Index, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"out\.hdf5: unknown ending '\.hdf5' for globals; use \.npz, \.npy"):
        export_globals(load_config(overrides=[f"index={index.directory}"]), tmp_path / "out.hdf5")


def test_an_id_with_a_line_break_is_refused_where_ids_are_lines(tmp_path: Path) -> None:
    with IndexWriter(tmp_path / "index") as writer:
        writer.begin(make_card(local_dimension=0), {}, ROOT, "parquet")
        writer.add(*make_items(["a\nb"]))
    config = load_config(overrides=[f"index={tmp_path / 'index'}"])
    with pytest.raises(UsageError, match="line break"):
        export_globals(config, tmp_path / "out.npy")
    assert export_globals(config, tmp_path / "out.npz").images == 1


def test_a_damaged_part_leaves_no_file(index: Index, tmp_path: Path) -> None:
    part = index.directory / index.manifest.parts[1].files["globals"].path
    part.write_bytes(part.read_bytes()[:40])
    target = tmp_path / "out.npz"
    with pytest.raises(RelookError, match=part.name):
        export_globals(load_config(overrides=[f"index={index.directory}"]), target)
    assert not list(tmp_path.glob("out*"))
