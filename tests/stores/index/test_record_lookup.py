"""Records that are read by id: those of `Index.records`, without building the others."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from photos import ROOT

from pipeline.errors import RelookError
from pipeline.stores import Index, IndexWriter
from pipeline.stores.index import record_lookup
from pipeline.stores.once import once_property
from pipeline.types import Description, ImageRecord, ModelCard

CARD = ModelCard("tiny", "none", "random weights (seed 0)", {}, "", 4, 0)


def record(number: int) -> ImageRecord:
    box = (0.0, 1.5, 10.0, float(number + 2)) if number % 3 == 0 else None
    return ImageRecord(
        f"é {number}", f"a/{number}.jpg", f"label {number % 5}", "val", box, 4, 3, 9, 10**18 + number, ""
    )


@pytest.fixture(params=["parquet", "csv"])
def index(tmp_path: Path, request: pytest.FixtureRequest) -> Index:
    """Parts of 7, 7 and 6 images; three are deleted, one of them was written again."""
    rng = np.random.default_rng(0)
    with IndexWriter(tmp_path / "index") as writer:
        writer.begin(CARD, {}, tmp_path, request.param)
        for numbers in (range(7), range(7, 14), range(14, 20)):
            vectors = rng.normal(size=(len(numbers), 4)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            writer.add([record(n) for n in numbers], [Description(vector) for vector in vectors])
        writer.delete(["é 0", "é 8", "é 13"])
        writer.add([record(8)], [Description(np.eye(4, dtype=np.float32)[0])])
        assert writer.index is not None
        return writer.index


@pytest.mark.parametrize("kept_rows", [4096, 0], ids=["tables stay in memory", "rows are picked from files"])
def test_records_by_id_are_those_of_the_catalog(index: Index, kept_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_lookup, "_KEPT_ROWS", kept_rows)
    rng = np.random.default_rng(1)
    ids = list(Index(index.directory).records)
    assert len(ids) == 18
    for _ in range(20):
        wanted = rng.choice(ids, int(rng.integers(0, 25))).tolist()
        assert index.find_records(wanted) == [index.records[name] for name in wanted]


PICK = """
import sys
from pathlib import Path
from pipeline.stores import Index
from pipeline.stores.index import record_lookup
record_lookup._KEPT_ROWS = int(sys.argv[1])
assert [one.id for one in Index(Path(sys.argv[2])).find_records(sys.argv[3:])] == sys.argv[3:]
print("pandas" in sys.modules)
"""


@pytest.mark.parametrize("kept_rows", [4096, 0])
def test_records_are_read_without_pandas(index: Index, kept_rows: int) -> None:
    command = [sys.executable, "-c", PICK, str(kept_rows), str(index.directory), "é 8", "é 1", "é 19"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_unknown_and_deleted_ids_are_named(index: Index) -> None:
    assert index.has(["é 1", "é 0", "no", "é 8"]).tolist() == [True, False, False, True]
    for name in ("é 0", "no"):
        with pytest.raises(RelookError, match=f"has no image with the id '{name}'"):
            index.find_records(["é 1", name])


def test_few_tables_stay_in_memory_and_threads_see_the_same(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_lookup, "_KEPT_PARTS", 1)
    ids = list(index.records)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: index.find_records([name])[0], ids * 20))
    assert found == [index.records[name] for name in ids * 20]
    assert len(index._record_lookup._tables) == 1


def test_a_property_is_computed_once_by_all_threads() -> None:
    class Counter:
        count = 0

        @once_property
        def value(self) -> int:
            self.count += 1
            return self.count

    counters = [Counter() for _ in range(50)]
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(lambda number: counters[number % 50].value, range(1000))) == {1}
