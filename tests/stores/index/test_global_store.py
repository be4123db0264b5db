"""Global descriptors of single images, read from the parts of an index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pinecone_helpers import filled, in_index

from pipeline.errors import RelookError
from pipeline.stores import GlobalStore, Index, IndexWriter

IDS = [f"{number:03d}" for number in range(70)]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Seven parts, with replaced and deleted rows."""
    filled(tmp_path / "index", IDS, part=10)
    filled(tmp_path / "index", IDS[5:8], seed=4)
    with IndexWriter(tmp_path / "index") as writer:
        writer.delete(["000", "031"])
    return Index(tmp_path / "index")


def test_vectors_come_in_the_order_that_was_asked_for(index: Index) -> None:
    here = in_index(index)
    ids = [*reversed(here), "007", "007"]
    np.testing.assert_array_equal(GlobalStore(index).read(ids), np.stack([here[name][0] for name in ids]))
    assert GlobalStore(index).read([]).shape == (0, 8)


@pytest.mark.parametrize("name", ["031", "nobody"])
def test_an_id_that_is_not_there_is_named(index: Index, name: str) -> None:
    with pytest.raises(RelookError, match=f"holds no id '{name}'"):
        GlobalStore(index).read(["001", name])


def test_an_index_may_do_without_the_files(index: Index) -> None:
    assert GlobalStore(index).complete
    (index.directory / index.manifest.parts[2].files["globals"].path).unlink()
    assert not GlobalStore(index).complete
