"""A change of model under searches, with kills: every search is answered by one model, whole, and none fails."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import Forks
from pinecone_helpers import serving
from pinecone_server import PineconeServer
from tiny import paint, tiny, tiny_config

from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.stages.reindex import reindex
from pipeline.stores import Index, open_store
from pipeline.stores.index.manifest import read_manifest
from pipeline.workflow.gallery import Gallery

__all__ = ["tiny"]
SIZES = (200, 320)
PHOTOS = 10
IDS = [f"{'ab'[number % 2]}/{number}.png" for number in range(PHOTOS)]


@pytest.fixture
def server() -> Iterator[PineconeServer]:
    with serving() as server:
        yield server


def stored_in(home: Path, kind: str, size: int = 320) -> Config:
    config = tiny_config(home, size)
    return config.model_copy(update={"store": config.store.model_copy(update={"kind": kind})})


def exact(index: Index, name: str) -> dict[str, float]:
    """The cosine of every image to one of them, from the index's own vectors."""
    tables = list(index.globals_parts())
    ids = [one for table in tables for one in table.ids]
    vectors = np.concatenate([table.vectors for table in tables])
    return dict(zip(ids, (vectors @ vectors[ids.index(name)]).tolist(), strict=True))


class Searches:
    """A thread that opens the index and searches it again and again."""

    def __init__(self, config: Config, expected: dict[str, dict[str, dict[str, float]]]) -> None:
        self._config, self._expected = config, expected
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.done: dict[str, int] = {}
        self.wrong: list[str] = []

    def __enter__(self) -> Searches:
        self._search()  # what is imported for it takes longer than the searches that follow
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._search()
            except Exception as error:
                self.wrong.append(f"{type(error).__name__}: {error}")

    def _search(self) -> None:
        with Gallery(self._config) as gallery:
            model = gallery.index.card.fingerprint
            for name in random.sample(IDS, 3):  # the generation may be replaced between two of them
                found = {hit.id: hit.score for hit in gallery.search(id=name, top_k=PHOTOS, rerank=None)}
                expected = self._expected[model][name]
                if found.keys() != expected.keys() or any(abs(found[key] - expected[key]) > 1e-5 for key in found):
                    self.wrong.append(f"{name}: {found} instead of {expected}")
                self.done[model] = self.done.get(model, 0) + 1


def change_models(forks: Forks, home: Path, kind: str, rounds: int, steps: int) -> Searches:
    """`rounds` changes of model beside searches, each killed at some steps of its commits before it may end."""
    draw = random.Random(7)
    for number, name in enumerate(IDS):
        paint(home / "photos" / name, number)
    expected = {}
    for size in SIZES:
        assert forks.run("reindex", home, size=size, store=kind) == 0
        index = Index(home / "index")
        expected[index.card.fingerprint] = {name: exact(index, name) for name in IDS}
    with Searches(stored_in(home, kind), expected) as searches:
        for number in range(rounds):
            job: dict[str, Any] = {"size": SIZES[number % 2], "store": kind}
            for _ in range(2):
                if forks.run("reindex", home, kill_at=f"any:{draw.randrange(1, steps)}", **job) == 0:
                    break
            assert forks.run("reindex", home, **job) == 0
            time.sleep(0.02)
    return searches


@pytest.mark.parametrize("rounds", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_searches_beside_changes_of_model_with_kills(tmp_path: Path, rounds: int) -> None:
    with Forks() as forks:
        searches = change_models(forks, tmp_path, "ann", rounds, steps=60)
    assert searches.wrong == []
    assert len(searches.done) == 2
    assert min(searches.done.values()) > 0


@pytest.mark.parametrize("rounds", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_searches_of_a_service_beside_changes_of_model_with_kills(
    server: PineconeServer, tmp_path: Path, rounds: int
) -> None:
    with Forks() as forks:
        searches = change_models(forks, tmp_path, "pinecone", rounds, steps=60)
    assert searches.wrong == []
    assert len(searches.done) == 2


@pytest.mark.usefixtures("tiny")
class TestOrder:
    def test_the_store_is_filled_before_the_manifest_is_switched(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from pipeline.workflow.indexing import store_filling

        for number in range(3):
            paint(tmp_path / "photos" / f"{number}.png", number)
        reindex(stored_in(tmp_path, "ann"))
        old = read_manifest(tmp_path / "index").fingerprint
        whole = store_filling.sync_store

        def refuse(kind: str, index: Index, *others: Any) -> Any:
            assert index.card.fingerprint != old == read_manifest(tmp_path / "index").fingerprint
            whole(kind, index, *others)
            raise RelookError("the store cannot be read")

        monkeypatch.setattr(store_filling, "sync_store", refuse)
        with pytest.raises(RelookError, match="cannot be read"):
            reindex(stored_in(tmp_path, "ann", 200))
        assert read_manifest(tmp_path / "index").fingerprint == old
        monkeypatch.setattr(store_filling, "sync_store", whole)
        result = reindex(stored_in(tmp_path, "ann", 200))
        assert (result.model, result.added, result.store["added"], result.store["equal"]) == ("changed", 0, 0, 3)
        # The old model's vectors stay for a rollback.
        index = Index(tmp_path / "index")
        assert open_store("ann", index).namespaces() == {old: 3, index.card.fingerprint: 3}
        last = stored_in(tmp_path, "ann", 210)
        reindex(last)
        assert old not in open_store("ann", Index(tmp_path / "index")).namespaces()  # two generations are kept

    def test_a_model_becomes_current_only_where_that_of_its_index_was(
        self, server: PineconeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        homes = tmp_path / "shop", tmp_path / "experiment"
        for home in homes:
            for number in range(3):
                paint(home / "photos" / f"{number}.png", number)
        shop = reindex(stored_in(homes[0], "pinecone"))
        assert shop.store["current"] == shop.store["model"]  # nothing was current
        trial = reindex(stored_in(homes[1], "pinecone", 200))
        assert trial.store["current"] == shop.store["model"] != trial.store["model"]
        assert "relook reindex --promote" in caplog.text
        with Gallery(stored_in(homes[0], "pinecone")) as gallery:
            assert gallery.search(id="0.png", rerank=None)[0].id == "0.png"
        with Gallery(stored_in(homes[1], "pinecone", 200)) as gallery, pytest.raises(RelookError, match="is current"):
            gallery.search(id="0.png", rerank=None)
        # Its own next model does not become current either, that of the index whose model is current does.
        assert reindex(stored_in(homes[1], "pinecone", 250)).store["current"] == shop.store["model"]
        changed = reindex(stored_in(homes[0], "pinecone", 280))
        assert changed.store["current"] == changed.store["model"] != shop.store["model"]
        promoted = reindex(stored_in(homes[1], "pinecone", 250), promote=True)
        assert promoted.store["current"] == promoted.store["model"]

    def test_a_run_that_names_no_model_keeps_that_of_the_index(self, tmp_path: Path) -> None:
        paint(tmp_path / "photos" / "0.png", 0)
        reindex(tiny_config(tmp_path, 200))
        plain = tiny_config(tmp_path).model_copy(update={"describe": Config().describe})
        paint(tmp_path / "photos" / "1.png", 1)
        result = reindex(plain)
        assert (result.model, result.added, result.equal) == ("same", 1, 1)
        assert any((tmp_path / "index" / "generations").iterdir())
