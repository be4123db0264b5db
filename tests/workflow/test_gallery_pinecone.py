"""A gallery whose candidates come from Pinecone: filters, and a namespace that is gone, empty or partly filled."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from pinecone_helpers import configured, filled, serving
from pinecone_server import PineconeServer
from stores_helpers import make_card

from pipeline.errors import RelookError
from pipeline.stages.evaluate import evaluate
from pipeline.stages.train_rerank import train_rerank
from pipeline.stages.upload import upload
from pipeline.stores import Index
from pipeline.workflow.gallery import Gallery

IDS = [f"photo {number:02d}.jpg" for number in range(40)]


@pytest.fixture
def server() -> Iterator[PineconeServer]:
    with serving() as server:
        yield server


@pytest.fixture
def index(server: PineconeServer, tmp_path: Path) -> Index:
    server.create("relook", 8)
    made = filled(tmp_path / "index", IDS)
    upload(configured(made.directory))
    return made


def gallery_of(index: Index) -> Gallery:
    return Gallery(configured(index.directory, "rerank.chain=[]"))


def test_filters_find_what_the_table_finds(index: Index) -> None:
    table = Gallery(configured(index.directory, "rerank.chain=[]", "store.kind=table"))
    hosted = gallery_of(index)
    for where in (None, {"label": ["label 2", "label 5"]}, {"split": "val", "label": ["label 1"]}):
        expected = table.search(id=IDS[3], top_k=30, where=where)
        assert len(expected) > 2
        assert hosted.search(id=IDS[3], top_k=30, where=where).ids == expected.ids


def test_a_namespace_that_is_gone_is_an_error_with_the_command(server: PineconeServer, index: Index) -> None:
    server.indexes["relook"].namespaces.pop(index.card.fingerprint)
    message = "the store pinecone is empty, the index has 40 images; run: relook upload --store pinecone"
    with pytest.raises(RelookError, match=message):
        gallery_of(index).search(id=IDS[3])
    for verb in (evaluate, train_rerank):
        with pytest.raises(RelookError, match=message):
            verb(configured(index.directory))


def test_a_partly_filled_namespace_is_a_warning_or_an_error(
    server: PineconeServer, index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="relook")
    gallery_of(index).search(id=IDS[3])
    assert not caplog.records
    filled(index.directory, [f"new {number}.jpg" for number in range(5)])
    more = Index(index.directory)
    message = "the store pinecone has 40 of 45 vectors; run: relook upload --store pinecone"
    assert len(gallery_of(more).search(id=IDS[3], top_k=45)) == 40
    assert message in caplog.text
    for verb in (evaluate, train_rerank):
        with pytest.raises(RelookError, match=message):
            verb(configured(index.directory))


def test_no_index_there_and_another_model_say_so(server: PineconeServer, index: Index, tmp_path: Path) -> None:
    other = filled(tmp_path / "other", IDS, make_card(weights="sha256:another"))
    with pytest.raises(RelookError, match="another model is current"):
        gallery_of(other).search(id=IDS[3])
    server.indexes.clear()
    with pytest.raises(RelookError, match="there is no Pinecone index relook; run: relook upload"):
        gallery_of(index).search(id=IDS[3])
