"""`upload` to Pinecone: what is sent, what is sent again, what is deleted, and what is left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flushing import without_flushing
from pinecone_helpers import assert_equal, configured, filled, open_pinecone, server
from pinecone_server import Fault, PineconeServer
from stores_helpers import make_card

from pipeline.errors import RelookError, UsageError
from pipeline.stages.upload import UploadResult, plan_upload, upload
from pipeline.stages.verify import verify
from pipeline.stores import Index, IndexWriter
from pipeline.types import GlobalDescriptors

__all__ = ["server", "without_flushing"]

IDS = [f"photo {number:04d}.jpg" for number in range(380)]
OTHER = make_card(weights="sha256:another")


@pytest.fixture
def index(server: PineconeServer, tmp_path: Path) -> Index:
    """An index of four parts, and a Pinecone index of documents."""
    server.create("relook", 8)
    return filled(tmp_path / "index", IDS)


def run(index: Index, **settings: Any) -> UploadResult:
    return upload(configured(index.directory, **settings))


def counts(result: UploadResult) -> tuple[int, int, int, int]:
    return result.added, result.changed, result.removed, result.equal


def writes(server: PineconeServer) -> int:
    return sum(server.received[(space, one)] for space, one in server.received if not space.endswith("models"))


def requests(server: PineconeServer, ending: str) -> int:
    return sum(count for name, count in server.calls.items() if name.endswith(ending))


def test_the_first_upload_sends_everything_once_and_the_second_nothing(server: PineconeServer, index: Index) -> None:
    result = run(index)
    assert counts(result) == (380, 0, 0, 0)
    assert_equal(server, index)
    keys = "store added changed removed equal seconds place model current pruned"
    assert set(result.to_json()) == set(keys.split())
    assert writes(server) == 380
    server.calls.clear()
    assert counts(run(index)) == (0, 0, 0, 380)
    assert writes(server) == 380
    # With a journal nothing is read back but the count.
    assert requests(server, "fetch") == requests(server, "list") == 0


def test_an_index_of_pinecone_that_does_not_exist_is_made_for_documents(server: PineconeServer, tmp_path: Path) -> None:
    index = filled(tmp_path / "index", IDS[:20])
    assert counts(run(index, region="eu-west-1")) == (20, 0, 0, 0)
    description = server.indexes["relook"].description
    assert description["schema"] == {"fields": {"vector": {"type": "dense_vector", "dimension": 8, "metric": "cosine"}}}
    assert description["deployment"]["region"] == "eu-west-1"
    assert_equal(server, index)
    assert counts(run(index)) == (0, 0, 0, 20)


def test_an_index_of_vectors_is_recognised_and_filled(server: PineconeServer, index: Index) -> None:
    server.indexes.clear()
    server.create("relook", 8, "vectors")
    assert counts(run(index)) == (380, 0, 0, 0)
    filled(index.directory, [*IDS[100:110], "new"], seed=7)
    with IndexWriter(index.directory) as writer:
        writer.delete(IDS[:4])
    changed = Index(index.directory)
    assert counts(run(changed)) == (1, 10, 4, 366)
    assert_equal(server, changed)


def test_what_was_added_replaced_and_deleted_is_all_that_is_sent(server: PineconeServer, index: Index) -> None:
    run(index)
    server.received.clear(), server.calls.clear()
    filled(index.directory, [*IDS[100:110], "new 1", "new 2"], seed=7)
    with IndexWriter(index.directory) as writer:
        writer.delete(IDS[320:340])
    changed = Index(index.directory)
    assert counts(run(changed)) == (2, 10, 20, 350)
    assert_equal(server, changed)
    assert writes(server) == 12
    assert not requests(server, "list"), "the ids of a million records would be listed for twenty that are gone"
    with IndexWriter(index.directory) as writer:
        writer.delete(IDS[200:300])  # a whole part, which is dropped from the manifest
    changed = Index(index.directory)
    assert counts(run(changed)) == (0, 0, 100, 262)
    assert_equal(server, changed)


def test_a_journal_that_is_wrong_does_no_harm(server: PineconeServer, index: Index) -> None:
    run(index)
    (journal,) = (index.directory / "uploads").iterdir()
    space = index.card.fingerprint
    store = open_pinecone(server, index)
    store.delete(IDS[:7])
    assert counts(run(index, wait=1)) == (7, 0, 0, 373)
    assert_equal(server, index)
    journal.write_text("{damaged")
    assert counts(run(index)) == (0, 0, 0, 380)
    server.indexes["relook"].upsert(space, [("stranger", [1.0] + [0.0] * 7, {})])
    assert counts(run(index, wait=1)) == (0, 0, 1, 380)
    del server.indexes["relook"].namespaces[space]
    assert counts(run(index)) == (380, 0, 0, 0)
    assert_equal(server, index)


def test_without_a_journal_the_service_is_compared(server: PineconeServer, index: Index) -> None:
    run(index)
    (journal,) = (index.directory / "uploads").iterdir()
    journal.unlink()
    space = index.card.fingerprint
    server.indexes["relook"].upsert(
        space, [("stranger", [1.0] + [0.0] * 7, {}), (IDS[3], [1.0] + [0.0] * 7, {"label": "wrong"})]
    )
    server.indexes["relook"].delete(space, IDS[10:12])
    server.received.clear()
    assert counts(run(index)) == (2, 1, 1, 377)
    assert_equal(server, index)
    assert writes(server) == 3


def test_a_dry_run_says_what_an_upload_does_and_writes_nothing(server: PineconeServer, index: Index) -> None:
    config = configured(index.directory)
    planned = plan_upload(config)
    assert (planned.added, planned.changed, planned.removed) == (380, 0, 0)
    assert 380 * 100 < planned.bytes < 380 * 300
    assert 380 * 0.09 < planned.write_units < 380 * 0.2  # 8 values and a little metadata are some 100 bytes
    assert not server.content()
    assert not (index.directory / "uploads").exists()
    result = run(index)
    sent = sum(count for name, count in server.calls.items() if name.endswith("upsert"))
    assert result.added == planned.added
    filled(index.directory, IDS[:30], seed=9)
    with IndexWriter(index.directory) as writer:
        writer.delete(IDS[40:45])
    planned = plan_upload(config)
    assert (planned.added, planned.changed, planned.removed) == (0, 30, 5)
    assert sum(count for name, count in server.calls.items() if name.endswith("upsert")) == sent


def test_a_dry_run_needs_no_index_of_pinecone(server: PineconeServer, tmp_path: Path) -> None:
    index = filled(tmp_path / "index", IDS[:20])
    assert plan_upload(configured(index.directory)).added == 20
    assert not server.indexes


def test_writes_that_are_read_late_are_waited_for(server: PineconeServer, index: Index) -> None:
    server.delay(0.4)
    assert counts(run(index)) == (380, 0, 0, 0)
    store = open_pinecone(server, index)
    assert store.stats()["count"] == 380
    assert len(store.query(store.fetch(IDS[:1]), 380)[0][0]) == 380


def test_counts_that_come_later_than_reads_are_waited_for(server: PineconeServer, index: Index) -> None:
    server.delay(0.6, "stats")
    assert counts(run(index)) == (380, 0, 0, 0)
    assert_equal(server, index)


def test_a_service_without_sequence_numbers_is_counted(server: PineconeServer, index: Index) -> None:
    server.silent = True
    server.delay(0.4)
    assert counts(run(index)) == (380, 0, 0, 0)
    assert open_pinecone(server, index).stats()["count"] == 380
    assert_equal(server, index)


def test_writes_that_cannot_be_read_in_time_end_in_an_error_and_are_not_lost(
    server: PineconeServer, tmp_path: Path
) -> None:
    server.create("relook", 8)
    index = filled(tmp_path / "index", IDS[:50])
    server.delay(60)
    with pytest.raises(RelookError, match=r"cannot be read after 0\.3 s; run it again"):
        run(index, wait=0.3)
    server.delay(0)
    server.received.clear()
    assert counts(run(index)) == (0, 0, 0, 50)
    assert writes(server) == 0
    assert_equal(server, index)


@pytest.mark.parametrize("kind", ["documents", "vectors"])
def test_a_new_namespace_is_not_read_before_it_is_written(server: PineconeServer, tmp_path: Path, kind: str) -> None:
    server.create("relook", 8, kind)
    index = filled(tmp_path / "index", IDS)
    config = configured(index.directory)
    plan_upload(config)
    assert requests(server, "fetch") == requests(server, "list") == 0
    assert counts(run(index)) == (380, 0, 0, 0)
    assert (requests(server, "fetch"), requests(server, "list")) == (1, 0)  # the model card
    assert_equal(server, index)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_requests_at_once_than_the_setting_says(server: PineconeServer, index: Index, concurrency: int) -> None:
    server.faults.append(Fault("", times=10**9, slow=0.02))
    run(index, concurrency=concurrency)
    store = open_pinecone(server, index, concurrency=concurrency)
    store.query(store.fetch(IDS[:20]), 3)
    assert len(list(store.ids())) == 380
    assert 1 <= server.most_at_once <= concurrency
    assert server.most_at_once == concurrency


class TestGuard:
    """A second collection of the same model in one namespace must not delete the first."""

    def test_another_collection_in_the_namespace_is_not_deleted(
        self, server: PineconeServer, index: Index, tmp_path: Path
    ) -> None:
        run(index)
        before = server.content()
        other = filled(tmp_path / "other", [f"another {number}" for number in range(40)], seed=5)
        with pytest.raises(RelookError) as caught:
            run(other)
        line = str(caught.value)
        assert "380 of 380 vectors are not in the index, the first is 'photo 0000.jpg'; nothing was written" in line
        assert "store.pinecone.collection" in line
        assert "--set reindex.max_removed=1" in line
        assert server.content().keys() == before.keys()
        assert_equal(server, index)
        with pytest.raises(RelookError, match=r"380 of 380 vectors are not in the index"):
            verify(configured(other.directory), repair=True)
        assert_equal(server, index)
        assert plan_upload(configured(other.directory)).removed == 380
        result = upload(configured(other.directory, "reindex.max_removed=1"))
        assert counts(result) == (40, 0, 380, 0)
        assert_equal(server, other)

    def test_a_share_below_the_guard_is_deleted(self, server: PineconeServer, index: Index) -> None:
        run(index)
        with IndexWriter(index.directory) as writer:
            writer.delete(IDS[:190])
        assert counts(run(Index(index.directory))) == (0, 0, 190, 190)
        with IndexWriter(index.directory) as writer:
            writer.delete(IDS[190:290])
        with pytest.raises(RelookError, match="100 of 190 vectors"):
            run(Index(index.directory))

    def test_the_local_ann_store_has_the_same_guard(self, tmp_path: Path) -> None:
        directory = f"store.ann.directory={tmp_path / 'ann'}"
        index = filled(tmp_path / "index", IDS[:30])
        other = filled(tmp_path / "other", ["a", "b"], seed=5)
        upload(configured(index.directory, "store.kind=ann", directory))
        with pytest.raises(RelookError, match=r"store ann: 30 of 30 .*store\.ann\.directory"):
            upload(configured(other.directory, "store.kind=ann", directory))
        assert upload(configured(index.directory, "store.kind=ann", directory)).equal == 30


class TestOlderControlPlane:
    """Self-hosted servers describe an index by dimension and metric."""

    def test_an_index_is_recognised_and_used(self, server: PineconeServer, index: Index) -> None:
        server.indexes.clear()
        server.create("relook", 8, "vectors")
        server.older = True
        assert counts(run(index)) == (380, 0, 0, 0)
        assert_equal(server, index)
        store = open_pinecone(server, index)
        assert store.current() == index.card.fingerprint
        assert [ids[0] for ids, _ in store.query(store.fetch(IDS[:3]), 2)] == IDS[:3]
        assert counts(run(index)) == (0, 0, 0, 380)

    def test_one_is_created(self, server: PineconeServer, tmp_path: Path) -> None:
        server.older = True
        index = filled(tmp_path / "index", IDS[:20])
        assert counts(run(index)) == (20, 0, 0, 0)
        assert server.indexes["relook"].kind == "vectors"

    def test_another_metric_is_refused(self, server: PineconeServer, index: Index) -> None:
        server.indexes.clear()
        server.create("relook", 8, "vectors", metric="euclidean")
        server.older = True
        with pytest.raises(RelookError, match="its metric is euclidean"):
            run(index)


class TestModels:
    def test_a_new_model_fills_its_own_namespace_and_searches_move_when_told(
        self, server: PineconeServer, index: Index, tmp_path: Path
    ) -> None:
        new = filled(tmp_path / "new", IDS[:60], OTHER, seed=3)
        old_model, new_model = index.card.fingerprint, new.card.fingerprint
        assert run(index).service["current"] == old_model  # the first is current without being asked
        assert run(new).service == {**run(new).service, "model": new_model, "current": old_model, "pruned": {}}
        assert_equal(server, index)
        assert_equal(server, new)
        query = open_pinecone(server, index).fetch(IDS[:1])
        old_store = open_pinecone(server, index)
        assert old_store.query(query, 1)
        with pytest.raises(RelookError, match=r"another model is current, .*weights: 'sha256:another' here, 'random"):
            open_pinecone(server, new).query(query, 1)
        assert open_pinecone(server, new, unpromoted=True).query(query, 1)

        promoted = upload(configured(new.directory), promote=True)
        assert promoted.service["current"] == new_model
        assert counts(promoted) == (0, 0, 0, 60)
        assert open_pinecone(server, new).query(query, 1)
        assert old_store.query(query, 1), "what runs goes on"
        with pytest.raises(RelookError, match="another model is current"):
            open_pinecone(server, index).query(query, 1)
        # And back, since nothing was deleted.
        assert upload(configured(index.directory), promote=True).service["current"] == old_model
        assert_equal(server, index)

    def test_prune_deletes_the_others_only(self, server: PineconeServer, index: Index, tmp_path: Path) -> None:
        new = filled(tmp_path / "new", IDS[:60], OTHER, seed=3)
        run(index)
        run(index, collection="elsewhere")
        kept = upload(configured(new.directory), prune=True)
        assert kept.service["pruned"] == {}, "the current model and this one stay"
        result = upload(configured(new.directory), promote=True, prune=True)
        assert result.service["pruned"] == {index.card.fingerprint: 380}
        assert set(server.content()) == {
            *("models", new.card.fingerprint),
            *("elsewhere-models", f"elsewhere-{index.card.fingerprint}"),
        }
        assert_equal(server, new)
        assert_equal(server, index, collection="elsewhere")
        with pytest.raises(RelookError, match=r"another model is current.*weights"):
            open_pinecone(server, index).query(open_pinecone(server, new).fetch(IDS[:1]), 1)

    def test_prune_deletes_only_what_relook_made_and_a_dry_run_lists_it(
        self, server: PineconeServer, index: Index, tmp_path: Path
    ) -> None:
        new = filled(tmp_path / "new", IDS[:60], OTHER, seed=3)
        run(index)
        foreign, forged = "0123456789abcdef", "fedcba9876543210"
        vector = [1.0] + [0.0] * 7
        for space in (foreign, forged):
            server.indexes["relook"].upsert(space, [(f"{n}", vector, {}) for n in range(11)])
        server.indexes["relook"].upsert("models", [(forged, vector, {"card": json.dumps(OTHER.to_json())})])
        upload(configured(new.directory), promote=True)
        before = set(server.content())
        planned = plan_upload(configured(new.directory), prune=True)
        assert planned.to_json()["pruned"] == {index.card.fingerprint: 380}
        assert plan_upload(configured(new.directory)).pruned == {}
        assert set(server.content()) == before
        result = upload(configured(new.directory), prune=True)
        assert result.service["pruned"] == {index.card.fingerprint: 380}
        content = server.content()
        assert (len(content[foreign]), len(content[forged])) == (11, 11)
        assert index.card.fingerprint not in content

    def test_a_search_before_any_upload_of_this_model_says_what_differs(
        self, server: PineconeServer, index: Index, tmp_path: Path
    ) -> None:
        store = open_pinecone(server, index)
        vectors = next(index.globals_parts()).vectors[:3]
        store.upsert(GlobalDescriptors(IDS[:3], vectors), [{}] * 3)  # by hand, so that no model is current
        other = filled(tmp_path / "other", IDS[:5], OTHER)
        with pytest.raises(RelookError, match=r"no vectors of this model, but of another one, .*weights: .* upload"):
            open_pinecone(server, other).query(vectors[:1], 1)

    def test_collections_in_one_index_of_pinecone_do_not_see_each_other(
        self, server: PineconeServer, index: Index, tmp_path: Path
    ) -> None:
        other = filled(tmp_path / "other", IDS[:40], seed=5)  # the same model
        run(index, collection="one")
        run(other, collection="two")
        assert_equal(server, index, collection="one")
        assert_equal(server, other, collection="two")
        assert dict(open_pinecone(server, other, collection="two").namespaces()) == {other.card.fingerprint: 40}


@pytest.mark.parametrize("options", [{"promote": True}, {"prune": True}, {"bulk": "gs://here"}])
def test_what_only_a_service_can_do_is_not_asked_of_the_table(tmp_path: Path, options: dict[str, Any]) -> None:
    index = filled(tmp_path / "index", IDS[:5])
    with pytest.raises(UsageError, match="table is a local store"):
        upload(configured(index.directory, "store.kind=table"), **options)


def test_a_damaged_part_is_not_sent(server: PineconeServer, tmp_path: Path) -> None:
    server.create("relook", 8)
    index = filled(tmp_path / "index", IDS[:20], part=10)
    one, two = (index.directory / part.files["globals"].path for part in index.manifest.parts)
    two.write_bytes(one.read_bytes())  # whole, but not what was written
    with pytest.raises(RelookError, match=f"{two.name}: .*checksum"):
        run(index)
    assert len(server.content()[index.card.fingerprint]) == 10


class TestImport:
    @pytest.fixture
    def bucket(self, server: PineconeServer, tmp_path: Path) -> Path:
        server.buckets = {"gs://photos": tmp_path / "bucket"}
        return tmp_path / "bucket"

    def copy(self, index: Index, folder: Path) -> None:
        folder.mkdir(parents=True)
        for part in index.manifest.parts:
            file = index.directory / part.files["globals"].path
            (folder / file.name).write_bytes(file.read_bytes())

    def test_parts_are_imported_and_what_an_import_cannot_know_is_mended(
        self, server: PineconeServer, bucket: Path, tmp_path: Path
    ) -> None:
        index = filled(tmp_path / "index", IDS[:200], part=50)
        with IndexWriter(index.directory) as writer:
            writer.delete(IDS[:3])
        index = Index(index.directory)
        self.copy(index, bucket / "relook" / index.card.fingerprint)
        server.import_seconds = 0.3
        result = upload(configured(index.directory), bulk="gs://photos/relook")
        assert counts(result) == (0, 0, 3, 197)
        assert server.indexes["relook"].kind == "vectors"
        assert writes(server) == 0
        assert_equal(server, index)
        # Again: the import is done, and known to be.
        assert counts(upload(configured(index.directory), bulk="gs://photos/relook")) == (0, 0, 0, 197)

    def test_an_import_that_is_under_way_is_waited_for(
        self, server: PineconeServer, bucket: Path, tmp_path: Path
    ) -> None:
        index = filled(tmp_path / "index", IDS[:60], part=50)
        self.copy(index, bucket / index.card.fingerprint)
        server.import_seconds = 0.6
        with pytest.raises(RelookError, match=r"not done after 0\.1 s; the same command waits on"):
            upload(configured(index.directory, import_wait=0.1), bulk="gs://photos")
        assert counts(upload(configured(index.directory), bulk="gs://photos")) == (0, 0, 0, 60)
        assert len(server.indexes["relook"].imports) == 1

    def test_an_import_that_fails_says_why_and_where_parts_belong(
        self, server: PineconeServer, bucket: Path, tmp_path: Path
    ) -> None:
        index = filled(tmp_path / "index", IDS[:10])
        belong = f"its parts belong in gs://photos/{index.card.fingerprint}/"
        with pytest.raises(RelookError, match=f"Failed .*no namespaces there.*{belong}"):
            upload(configured(index.directory), bulk="gs://photos")
        assert counts(run(index)) == (10, 0, 0, 0)

    @pytest.mark.parametrize("what", ["documents", "ids", "there"])
    def test_what_cannot_be_imported_is_refused(
        self, server: PineconeServer, bucket: Path, tmp_path: Path, what: str
    ) -> None:
        said = {"documents": "this one holds documents", "ids": "'ö'", "there": "imports into new ones only"}
        index = filled(tmp_path / "index", ["ö"] if what == "ids" else IDS[:10])
        server.create("relook", 8, "documents" if what == "documents" else "vectors")
        if what == "there":
            run(index)
        with pytest.raises(RelookError, match=said[what]):
            upload(configured(index.directory), bulk="gs://photos")
        assert not server.indexes["relook"].imports

    def test_only_buckets_are_imported_from(self, server: PineconeServer, tmp_path: Path) -> None:
        index = filled(tmp_path / "index", IDS[:10])
        with pytest.raises(UsageError, match="must begin with gs:// or s3://"):
            upload(configured(index.directory), bulk="/tmp/parts")


def test_the_journal_says_what_was_sent_and_nothing_secret(server: PineconeServer, index: Index) -> None:
    run(index)
    (journal,) = (index.directory / "uploads").iterdir()
    content = json.loads(journal.read_text())
    assert content["parts"] == {part.name: 0 for part in index.manifest.parts}
    assert content["whole"] is True
    assert server.key not in journal.read_text()
