"""An evaluation on more images than a query of Pinecone returns, against average precision worked out by hand."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pinecone_helpers import configured, serving
from pinecone_server import PineconeServer
from stores_helpers import ROOT, make_card, unit_vectors

from pipeline.stages.evaluate import evaluate
from pipeline.stages.upload import upload
from pipeline.stores import Index, IndexWriter
from pipeline.types import Description, FloatArray, ImageRecord

COUNT, LABELLED, LABELS = 10_300, 60, 12
IDS = [f"{number * 7919 % 100_003:06d}.jpg" for number in range(COUNT)]


@pytest.fixture
def server() -> Iterator[PineconeServer]:
    with serving() as server:
        yield server


@pytest.fixture
def vectors() -> FloatArray:
    """Those of a label are near each other by chance only, so that many relevant images are ranked last."""
    return unit_vectors(COUNT, seed=11)


@pytest.fixture
def index(tmp_path: Path, vectors: FloatArray, monkeypatch: pytest.MonkeyPatch) -> Index:
    monkeypatch.setattr("pipeline.files.atomic_write._flush", lambda path: None)
    with IndexWriter(tmp_path / "index") as writer:
        writer.begin(make_card(), {}, ROOT, "parquet")
        records = [
            ImageRecord(name, name, f"label {number % LABELS}" if number < LABELLED else "")
            for number, name in enumerate(IDS)
        ]
        writer.add(records, [Description(vector) for vector in vectors])
    return Index(tmp_path / "index")


def mean_average_precision(vectors: FloatArray) -> float:
    """Of each labelled image as a query, without itself, among all others."""
    values = []
    for query in range(LABELLED):
        scores = vectors.astype(np.float64) @ vectors[query].astype(np.float64)
        order = [row for row in np.lexsort((IDS, -scores)).tolist() if row != query]
        places = [place for place, row in enumerate(order, 1) if row < LABELLED and row % LABELS == query % LABELS]
        assert len(places) == LABELLED // LABELS - 1
        values.append(np.mean([number / place for number, place in enumerate(places, 1)]))
    return 100 * float(np.mean(values))


def test_more_than_ten_thousand_images_are_ranked_exactly_and_it_is_said(
    server: PineconeServer, index: Index, vectors: FloatArray, caplog: pytest.LogCaptureFixture
) -> None:
    server.create("relook", 8)
    assert upload(configured(index.directory, timeout=60.0, wait=120.0)).added == COUNT
    caplog.set_level(logging.WARNING, logger="relook")
    found = evaluate(configured(index.directory, "rerank.chain=[]"))
    expected = mean_average_precision(vectors)
    assert found.before.summary()["mAP"] == pytest.approx(expected, abs=0.006)
    assert "returns at most 10000 results per query, this protocol ranks 10300 images" in caplog.text
