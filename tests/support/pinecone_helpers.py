"""What the tests of Pinecone share: a server's environment, indexes without photos, stores, and what is in them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pinecone_server import PineconeServer
from stores_helpers import ROOT, make_card, unit_vectors

from pipeline.config import Config, load_config
from pipeline.stores import Index, IndexWriter, open_store
from pipeline.stores.pinecone.ids import stored_id
from pipeline.stores.pinecone.store import PineconeStore
from pipeline.types import Description, FloatArray, ImageRecord, ModelCard

# Faults in tests are over in a moment.
QUICK: Mapping[str, Any] = {"wait": 5.0, "resend_after": 0.05, "timeout": 2.0}


@contextmanager
def serving() -> Iterator[PineconeServer]:
    """A server that the SDK finds."""
    with PineconeServer() as server:
        os.environ.update(server.environment)
        yield server


def configured(index: Path, *overrides: str, **settings: Any) -> Config:
    """The configuration of a verb on this index and Pinecone."""
    pinecone = {**QUICK, **settings}
    keys = [f"store.pinecone.{key}={value}" for key, value in pinecone.items()]
    return load_config(overrides=[f"index={index}", "store.kind=pinecone", *keys, *overrides])


def open_pinecone(server: PineconeServer, index: Index, **settings: Any) -> PineconeStore:
    """The store of an index in a server."""
    os.environ.update(server.environment)
    store = open_store("pinecone", index, **configured(index.directory, **settings).store.options)
    assert isinstance(store, PineconeStore)
    return store


def index_of(directory: Path, card: ModelCard) -> Index:
    """An index of a model, without images where it is new."""
    with IndexWriter(directory) as writer:
        writer.begin(card, {}, ROOT, "parquet")
    return Index(directory)


def filled(directory: Path, ids: Sequence[str], card: ModelCard | None = None, part: int = 100, seed: int = 0) -> Index:
    """An index of these ids, in parts of so many; run again it adds to what is there, or replaces it."""
    card = card or make_card()
    with IndexWriter(directory) as writer:
        writer.begin(card, {}, ROOT, "parquet")
        vectors = unit_vectors(len(ids), card.dimension, seed)
        for first in range(0, len(ids), part):
            rows = range(first, min(first + part, len(ids)))
            records = [ImageRecord(ids[n], f"{n}.jpg", f"label {n % 7}", "val" if n % 2 else "train") for n in rows]
            writer.add(records, [Description(vectors[n]) for n in rows])
    return Index(directory)


def in_index(index: Index) -> dict[str, tuple[FloatArray, dict[str, str]]]:
    """What an index holds, by id."""
    return {
        name: (vector, dict(entry))
        for table in index.globals_parts()
        for name, vector, entry in zip(table.ids, table.vectors, table.metadata, strict=True)
    }


def assert_equal(server: PineconeServer, index: Index, name: str = "relook", collection: str = "") -> None:
    """The service holds what the index does: not one record less, more or other."""
    namespace = f"{collection}-{index.card.fingerprint}" if collection else index.card.fingerprint
    there, here = server.content(name)[namespace], in_index(index)
    assert sorted(there) == sorted(map(stored_id, here))
    for identifier, (vector, metadata) in here.items():
        stored, fields = there[stored_id(identifier)]
        np.testing.assert_allclose(stored, vector, atol=1e-7)
        assert {key: value for key, value in fields.items() if key != "relook_id"} == metadata


@pytest.fixture
def server() -> Iterator[PineconeServer]:
    """A service without an index."""
    with serving() as server:
        yield server
