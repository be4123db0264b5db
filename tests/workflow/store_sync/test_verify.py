"""`verify`: finds every difference between an index and a store, and repairs it with the fewest writes.

Differences are made on purpose and compared with what two dictionaries say; the command line is run against the table
and against a service over HTTP.
"""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_helpers import relook
from flushing import without_flushing
from hypothesis import given, settings
from hypothesis import strategies as st
from pinecone_helpers import open_pinecone
from pinecone_server import PineconeServer
from stores_helpers import ROOT, make_card, make_index, make_items, unit_vectors

from pipeline.config import parse_config
from pipeline.files import sha256_of
from pipeline.stages.upload import upload
from pipeline.stages.verify import VerifyResult, _compare, _extra, verify
from pipeline.stores import Index, IndexWriter, TableStore
from pipeline.stores.index.tables import write_table
from pipeline.types import GlobalDescriptors, StoredVectors
from pipeline.workflow.progress import Silent
from pipeline.workflow.store_sync.comparison import compare_parts, extra_ids

__all__ = ["without_flushing"]


POOL = unit_vectors(4)


class Counting:
    """A table store that counts what is written to it, in the place of a store beside the index."""

    index_backed = hosted = False

    def __init__(self, store: TableStore) -> None:
        self._store, self.written, self.forgotten = store, 0, 0

    def upsert(self, descriptors: GlobalDescriptors, metadata: Any) -> None:
        self.written += len(descriptors.ids)
        self._store.upsert(descriptors, metadata)

    def delete(self, ids: Sequence[str]) -> int:
        self.forgotten += len(ids)
        return self._store.delete(ids)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def made(folder: Path, items: dict[str, tuple[int, str]], parts: int) -> Path:
    with IndexWriter(folder) as writer:
        writer.begin(make_card(), {}, ROOT, "parquet")
        for names in np.array_split(np.array(list(items), dtype=object), parts):
            vectors = np.stack([POOL[items[name][0]] for name in names]) if len(names) else POOL[:0]
            writer.add_vectors(list(names), vectors, [{"label": items[name][1]} for name in names])
    return folder


item = st.tuples(st.integers(0, 3), st.sampled_from(["x", "y"]))
contents = st.dictionaries(st.text(max_size=3), item, max_size=12)


@settings(max_examples=25)
@given(here=contents, there=contents, parts=st.integers(1, 3))
def test_what_differs_is_what_two_dictionaries_say_and_repair_writes_no_more(
    tmp_path_factory: pytest.TempPathFactory, here: Any, there: Any, parts: int
) -> None:
    folder = tmp_path_factory.mktemp("verify")
    index = Index(made(folder / "here", here, parts))
    store: Any = Counting(TableStore.open(made(folder / "there", there, 1)))
    missing, changed = here.keys() - there, {name for name in here.keys() & there if here[name] != there[name]}

    def looked(repair: bool) -> tuple[int, int, int | None, int]:
        result = VerifyResult("table", "", index_count=len(here))
        with _extra(result, index, store) as removals:
            _compare(result, index, store, None, repair, Silent())
            for ids in removals if repair else ():
                store.delete(ids)
        return result.added, result.changed, result.removed, result.equal

    extra = len(there.keys() - here)
    expected = (len(missing), len(changed), extra, len(here) - len(missing) - len(changed))
    assert looked(repair=False) == expected
    assert (store.written, store.forgotten) == (0, 0)
    assert looked(repair=True) == expected
    assert (store.written, store.forgotten) == (len(missing) + len(changed), extra)
    assert looked(repair=False) == (0, 0, 0, len(here))
    assert list(store.ids()) == sorted(here)


def test_many_extra_ids_are_deleted_after_they_were_all_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.workflow.store_sync.comparison.CHUNK", 7)
    index = Index(made(tmp_path / "here", {"keep": (0, "x")}, 1))
    there = {f"{number}": (0, "x") for number in range(60)} | {"keep": (0, "x")}
    store: Any = Counting(TableStore.open(made(tmp_path / "there", there, 1)))
    result = VerifyResult("table", "")
    with _extra(result, index, store) as removals:
        assert store.forgotten == 0
        assert sum(store.delete(ids) for ids in removals) == 60
    assert (result.removed, store.forgotten, list(store.ids())) == (60, 60, ["keep"])
    assert len(result.examples["removed"]) == 5


def test_memory_does_not_grow_with_the_number_of_ids(tmp_path: Path) -> None:
    class Elsewhere:
        def __init__(self, index: Index) -> None:
            self._index = index

        def ids(self) -> Iterator[str]:
            return (name for part in self._index.manifest.parts for name in self._index.ids_of(part))

        def read(self, ids: Sequence[str]) -> StoredVectors:
            return StoredVectors(ids, vectors[: len(ids)], [{}] * len(ids))

    vectors, peaks = unit_vectors(1000, 64), []
    for parts in (2, 24):
        folder = tmp_path / f"{parts}"
        with IndexWriter(folder) as writer:
            writer.begin(make_card(64), {}, ROOT, "parquet")
            for part in range(parts):
                writer.add_vectors([f"{part:04d}/{row:04d}" for row in range(1000)], vectors, [{}] * 1000)
        index = Index(folder)
        other: Any = Elsewhere(index)
        tracemalloc.start()
        assert list(extra_ids(index, other)) == []
        assert sum(len(found.wrong) for found in compare_parts(index, other)) == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_the_table_is_compared_with_itself_and_damage_is_named(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index")
    done = relook("verify", "--index", tmp_path / "index", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {key: found[key] for key in ("added", "changed", "removed", "equal", "damaged")} == {
        "added": 0,
        "changed": 0,
        "removed": 0,
        "equal": 3,
        "damaged": [],
    }
    part = tmp_path / "index" / index.manifest.parts[0].files["globals"].path
    part.write_bytes(part.read_bytes()[:-9] + b"damaged !")
    done = relook("verify", "--index", tmp_path / "index")
    assert done.returncode == 1
    assert part.name in done.stdout
    assert "1 files of the index are damaged" in done.stderr
    refused = relook("verify", "--index", tmp_path / "index", "--repair")
    assert (refused.returncode, part.name in refused.stderr) == (1, True)


def test_the_table_is_read_part_by_part_also_for_a_sample(tmp_path: Path) -> None:
    """As few bytes of the index as the sample asks for: damage that keeps a file's length is found by the whole."""
    records, items = make_items([f"{number:02d}" for number in range(30)])
    with IndexWriter(tmp_path / "index") as writer:
        writer.begin(make_card(), {}, ROOT, "csv")
        for first in range(0, 30, 10):
            writer.add(records[first : first + 10], items[first : first + 10])
    config = parse_config({"index": str(tmp_path / "index"), "store": {"kind": "csv"}}, "tests")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.stores.table.store.load_vectors", None)  # nothing is held
        whole, some = verify(config), verify(config, sample=7)
        assert upload(config).equal == 30
    assert (whole.compared, whole.equal, whole.removed, whole.differs) == (30, 30, 0, False)
    assert (some.compared, some.equal, some.removed, some.differs) == (7, 7, 0, False)
    path = next((tmp_path / "index" / "catalog").glob("*"))
    path.write_text(path.read_text().replace("640", "641"))
    assert not verify(config, sample=7).damaged
    assert verify(config).damaged == [f"{path}: damaged (its checksum differs)"]


def named_otherwise(folder: Path, change: dict[str, str], **deleted: Any) -> tuple[Path, str]:
    """An index of two parts whose second part has other ids in its globals, with the checksum of that file.

    Returns the file and the part's name.
    """
    with IndexWriter(folder) as writer:
        writer.begin(make_card(), {}, ROOT, "parquet")
        for names in (["a", "b", "c"], ["d", "e", "f"]):
            writer.add(*make_items(names))
        writer.delete(deleted.get("deleted", ()))
        writer.complete(1)
        assert writer.index is not None
        part = writer.index.manifest.parts[1]
    path = folder / part.files["globals"].path
    table = pq.read_table(path)
    ids = [change.get(name, name) for name in table["id"].to_pylist()]
    write_table(path, table.set_column(0, "id", pa.array(ids, pa.string())))
    manifest = json.loads((folder / "index.json").read_text())
    manifest["parts"][1]["files"]["globals"] |= {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    (folder / "index.json").write_text(json.dumps(manifest))
    return path, part.name


@pytest.mark.parametrize("arguments", [(), ("--sample", "6")], ids=["whole", "sample"])
def test_a_part_whose_tables_name_other_images_is_told_by_its_row(tmp_path: Path, arguments: Any) -> None:
    """Whatever the store is: it would be filled with vectors under ids that the catalog has not."""
    path, part = named_otherwise(tmp_path / "index", {"e": "x", "f": "y"})
    catalog = f"catalog/{part}.parquet"
    line = f"{path}: row 1 of {part} has the id 'x', and 'e' in {catalog}"
    done = relook("verify", "--index", tmp_path / "index", "--json", *arguments)
    assert (done.returncode, json.loads(done.stdout)["damaged"]) == (1, [line])
    assert "1 files of the index are damaged; extract into a new --index" in done.stderr
    assert Index(tmp_path / "index").verify() == [line]
    with PineconeServer() as server:
        server.create("relook", 8)
        command = ("verify", "--index", tmp_path / "index", "--store", "pinecone", "--json", *arguments)
        done = relook(*command, **server.environment)
    assert (done.returncode, json.loads(done.stdout)["damaged"]) == (1, [line])


def test_ids_of_deleted_rows_and_of_parts_outside_a_sample_are_not_compared(tmp_path: Path) -> None:
    named_otherwise(tmp_path / "deleted", {"e": "x"}, deleted=["e"])
    assert Index(tmp_path / "deleted").verify() == []
    index = Index(named_otherwise(tmp_path / "other", {"e": "x"})[0].parents[1])
    first, second = (part.name for part in index.manifest.parts)
    assert index.differing_ids([first]) == []
    assert len(index.differing_ids([second])) == 1


def test_a_service_is_verified_by_sample_or_whole_and_repaired(tmp_path: Path) -> None:
    ids = [f"{number:02d}" for number in range(30)]
    index = make_index(tmp_path / "index", ids=ids)
    with PineconeServer() as server:
        server.create("relook", 8)
        store = open_pinecone(server, index)

        def verified(*arguments: object) -> tuple[int, dict[str, Any]]:
            command = ("verify", "--index", tmp_path / "index", "--store", "pinecone", "--json", *arguments)
            done = relook(*command, **server.environment)
            assert "Traceback" not in done.stderr
            return done.returncode, json.loads(done.stdout)

        code, found = verified()
        assert (code, found["added"], found["store_count"]) == (1, 30, 0)
        code, found = verified("--repair")
        assert (code, found["added"], found["repaired"], found["store_count"]) == (0, 30, True, 30)
        assert verified()[0] == 0

        store.upsert(GlobalDescriptors(["07", "stranger"], unit_vectors(2, seed=5)), [{"label": "other"}] * 2)
        store.delete(["03", "04"])
        code, found = verified("--sample", "30")
        assert (code, found["compared"], found["added"], found["changed"], found["removed"]) == (1, 30, 2, 1, None)
        assert found["examples"] == {"added": ["03", "04"], "changed": ["07"]}
        code, found = verified("--sample", "5")
        assert (code, found["compared"]) == (1, 5)  # whatever was looked at, the counts differ
        code, found = verified("--repair")
        assert [found[key] for key in ("added", "changed", "removed", "equal")] == [2, 1, 1, 27]
        assert verified()[0] == 0
        assert list(store.ids()) == ids
