"""The Pinecone store beyond what every store does (test_store_contract.py): ids, limits, and what it recognises."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinecone_data import MAX_REPLY, MAX_REQUEST
from pinecone_helpers import index_of, open_pinecone, serving
from pinecone_server import Fault, PineconeServer
from stores_helpers import make_card, unit_vectors

from pipeline.config import load_config
from pipeline.errors import RelookError, UsageError
from pipeline.stores.pinecone.ids import in_order, is_hashed, original_id, stored_id
from pipeline.stores.pinecone.store import PineconeStore
from pipeline.types import GlobalDescriptors

WIDE = make_card(2048)

texts = st.text(st.characters(codec="utf-8"), max_size=40) | st.text("\x00\x01\x02~}\x7fé", max_size=12)
long_texts = texts.map(lambda text: text + "é" * 600) | texts.map(lambda text: "k" * 440 + text)

Opener = Callable[..., PineconeStore]


class TestIds:
    @given(st.lists(texts))
    def test_ids_are_mapped_there_and_back_in_their_order(self, names: list[str]) -> None:
        for name in names:
            assert re.fullmatch(r"[\x01-\x7f]{1,512}", stored_id(name))
            assert original_id(stored_id(name)) == name
        assert [original_id(stored) for stored in sorted(map(stored_id, names))] == sorted(names)

    @given(st.lists(long_texts | texts, unique=True))
    def test_ids_of_any_length_are_told_apart_and_sorted(self, names: list[str]) -> None:
        known = {stored_id(name): name for name in names}
        assert len(known) == len(names)
        assert all(re.fullmatch(r"[\x01-\x7f]{1,512}", stored) for stored in known)
        assert list(in_order(sorted(known), lambda some: [known[one] for one in some])) == sorted(names)

    @given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7D), min_size=1, max_size=512))
    def test_plain_ids_stay_as_they_are(self, name: str) -> None:
        assert stored_id(name) == name

    def test_only_long_ids_are_hashed(self) -> None:
        assert [is_hashed(stored_id("ü" * length)) for length in (1, 85, 86, 600)] == [False, False, True, True]
        assert not is_hashed("a" * 446 + "~~" + "g" * 64)


@pytest.fixture(scope="module")
def server() -> Iterator[PineconeServer]:
    with serving() as server:
        yield server


@pytest.fixture(params=["documents", "vectors"])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def opened(server: PineconeServer, tmp_path: Path) -> Opener:
    """A function that opens a store for a model of so many values, in a fresh index of Pinecone of some kind."""

    def opened(dimension: int = 8, kind: str = "documents", **settings: object) -> PineconeStore:
        name = f"index-{len(server.indexes)}"
        server.create(name, dimension, kind)
        server.largest = {"request": 0, "reply": 0}
        server.calls.clear()
        return open_pinecone(server, index_of(tmp_path / name, make_card(dimension)), name=name, **settings)

    return opened


def put(store: PineconeStore, ids: list[str], dimension: int = 8, metadata: int = 0) -> None:
    entries = [{"label": "x" * metadata} if metadata else {} for _ in ids]
    store.upsert(GlobalDescriptors(ids, unit_vectors(len(ids), dimension)), entries)


class TestLimits:
    def test_requests_are_as_large_as_they_may_be_and_no_larger(
        self, server: PineconeServer, opened: Opener, kind: str
    ) -> None:
        store = opened(2048, kind)
        ids = [f"{number:04d}" for number in range(300)]
        put(store, ids, 2048)
        assert 0.8 * MAX_REQUEST < server.largest["request"] < MAX_REQUEST
        sent = sum(count for name, count in server.calls.items() if name.endswith("upsert"))
        assert sent <= 1 + 5  # the model card; some 25 kB of JSON each
        np.testing.assert_allclose(store.fetch(ids), unit_vectors(300, 2048), atol=1e-7)
        assert list(store.read(ids).ids) == ids
        assert server.largest["reply"] < MAX_REPLY
        server.largest["reply"] = 0
        assert len(store.query(unit_vectors(1, 2048), 300)[0][0]) == 300
        assert server.largest["reply"] < 30_000, "answers come without vectors"

    def test_metadata_as_large_as_they_may_be(self, server: PineconeServer, opened: Opener, kind: str) -> None:
        store = opened(512, kind)
        ids = [f"{number:04d}" for number in range(120)]
        put(store, ids, 512, metadata=40_900)
        assert server.largest["request"] < MAX_REQUEST
        assert [len(entry["label"]) for entry in store.read(ids).metadata] == [40_900] * 120
        assert server.largest["reply"] < MAX_REPLY

    def test_many_long_ids(self, opened: Opener, kind: str) -> None:
        store = opened(8, kind)
        ids = sorted([f"{number:03d} {'ж' * 90}" for number in range(150)] + [f"{n} {'ж' * 600}" for n in range(40)])
        put(store, ids)
        assert list(store.ids()) == ids
        assert list(store.read(ids).ids) == ids
        assert sorted(store.query(unit_vectors(1), 200)[0][0]) == ids
        assert store.delete(ids[:100]) == 100
        assert list(store.ids()) == ids[100:]

    def test_more_ids_than_a_request_may_name(self, opened: Opener, kind: str) -> None:
        store = opened(8, kind)
        ids = [f"{number:04d}" for number in range(2_100)]
        put(store, ids)
        assert list(store.ids()) == ids
        assert store.delete([*ids, "nobody"]) == 2_100
        assert store.stats()["count"] == 0

    def test_metadata_that_are_too_large_are_named(self, server: PineconeServer, opened: Opener) -> None:
        store = opened()
        descriptors = GlobalDescriptors(["fine", "fat ü"], unit_vectors(2))
        with pytest.raises(RelookError, match=r"metadata of 'fat ü' have 4101\d bytes; .* at most 40960"):
            store.upsert(descriptors, [{}, {"label": "x" * 41_000}])
        assert store.stats()["count"] == 0

    @pytest.mark.parametrize("name", ["_id", "$in", "vector", "relook_id", ""])
    def test_names_that_are_reserved_are_refused(self, opened: Opener, name: str) -> None:
        with pytest.raises(RelookError, match=re.escape(f"metadata of 'a' have the name {name!r}")):
            opened().upsert(GlobalDescriptors(["a"], unit_vectors(1)), [{name: "x"}])

    def test_no_more_answers_than_the_service_gives(self, opened: Opener) -> None:
        store = opened()
        put(store, ["a", "b"])
        with pytest.raises(RelookError, match="top_k = 10001: Pinecone returns at most 10000 results"):
            store.query(unit_vectors(1), 10_001)
        assert len(store.query(unit_vectors(1), 10_000)[0][0]) == 2

    def test_queries_are_asked_side_by_side(self, server: PineconeServer, opened: Opener) -> None:
        store = opened()
        put(store, ["a", "b"])
        store.query(unit_vectors(1), 1)
        server.faults.append(Fault("search", times=16, slow=0.2))
        server.most_at_once = 0
        assert len(store.query(unit_vectors(16), 1)) == 16
        server.faults.clear()
        assert server.most_at_once > 1


class TestIndexes:
    @pytest.mark.filterwarnings("error::DeprecationWarning", "error::FutureWarning", "error::UserWarning")
    def test_one_is_made_without_a_warning(self, server: PineconeServer, tmp_path: Path) -> None:
        index = index_of(tmp_path / "index", make_card())
        for records in ("documents", "vectors"):
            store = open_pinecone(server, index, name=f"new-{records}", records=records)
            put(store, ["a", "ö"])
            assert store.query(unit_vectors(1), 2)[0][0] == ["a", "ö"]
            assert server.indexes[f"new-{records}"].kind == records

    def test_a_vector_field_of_another_name_is_found(self, server: PineconeServer, tmp_path: Path) -> None:
        index = index_of(tmp_path / "index", make_card())
        server._create(
            {
                "name": "named",
                "schema": {"fields": {"look": {"type": "dense_vector", "dimension": 8, "metric": "dotproduct"}}},
            }
        )
        store = open_pinecone(server, index, name="named")
        put(store, ["a", "b"])
        assert list(store.read(["a", "b"]).metadata) == [{}, {}]
        np.testing.assert_allclose(store.fetch(["b"]), unit_vectors(2)[1:], atol=1e-7)

    def test_vectors_of_another_length(self, server: PineconeServer, tmp_path: Path) -> None:
        server.create("short", 7)
        store = open_pinecone(server, index_of(tmp_path / "index", make_card()), name="short")
        for ask in (lambda: put(store, ["a"]), lambda: store.query(unit_vectors(1), 1)):
            with pytest.raises(RelookError, match="index short: has vectors of 7 values, and the model makes 8"):
                ask()

    def test_another_metric(self, server: PineconeServer, tmp_path: Path) -> None:
        server.create("far", 8, metric="euclidean")
        with pytest.raises(RelookError, match="its metric is euclidean; it must be cosine or dotproduct"):
            put(open_pinecone(server, index_of(tmp_path / "index", make_card()), name="far"), ["a"])

    def test_none_at_all(self, server: PineconeServer, tmp_path: Path) -> None:
        store = open_pinecone(server, index_of(tmp_path / "index", make_card()), name="nowhere")
        assert (list(store.ids()), store.stats()["count"], store.delete(["a"])) == ([], 0, 0)
        with pytest.raises(RelookError, match="there is no Pinecone index nowhere; run: relook upload"):
            store.query(unit_vectors(1), 1)


class TestWithout:
    def test_a_key(self, server: PineconeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        index = index_of(tmp_path / "index", make_card())
        monkeypatch.setattr(server, "key", "")
        monkeypatch.setattr("pinecone_server.KEY", "")
        with pytest.raises(RelookError, match="PINECONE_API_KEY is not set"):
            open_pinecone(server, index)

    def test_the_sdk(self, server: PineconeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pinecone", None)
        with pytest.raises(RelookError, match="run: pip install pinecone orjson"):
            open_pinecone(server, index_of(tmp_path / "index", make_card()))

    def test_a_setting_for_the_key(self) -> None:
        with pytest.raises(UsageError, match=r"unknown key store\.pinecone\.api_key") as caught:
            load_config(overrides=["store.pinecone.api_key=pcsk_secret"])
        assert "pcsk_secret" not in str(caught.value)
