"""Where the contract suite opens each kind of store; a new store is one class and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Protocol

from pinecone_helpers import index_of, open_pinecone
from pinecone_server import PineconeServer
from stores_helpers import DIMENSION, ROOT, make_card

from pipeline.stores import IndexWriter, TableStore, open_store
from pipeline.stores.index.manifest import TableFormat
from pipeline.types import ModelCard, VectorStore


class Place(Protocol):
    """A folder, a file or a service that may hold vectors of several models."""

    def open(self, card: ModelCard) -> VectorStore:
        """The store of one model, as another process would open it: empty at first, later with what was written."""

    def settle(self, store: VectorStore) -> None:
        """Return when what was written to `store` can be read."""


class TablePlace:
    """Index directories side by side, one a model."""

    def __init__(self, folder: Path, tables: TableFormat) -> None:
        self._folder, self._tables = folder, tables

    def open(self, card: ModelCard) -> VectorStore:
        """See `Place.open`."""
        with IndexWriter(self._folder / card.fingerprint) as writer:
            writer.begin(card, {}, ROOT, self._tables)
        return TableStore.open(self._folder / card.fingerprint)

    def settle(self, store: VectorStore) -> None:
        """What is committed can be read."""


class PineconePlace:
    """One index of Pinecone over HTTP, of either kind, that exists already."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder, self._server = folder, _server()
        self._name = f"relook-{len(self._server.indexes)}"
        self._server.create(self._name, DIMENSION, kind)

    def open(self, card: ModelCard) -> VectorStore:
        """See `Place.open`."""
        return open_pinecone(self._server, index_of(self._folder / card.fingerprint, card), name=self._name)

    def settle(self, store: VectorStore) -> None:
        """This service is quick; tests of Pinecone alone have slower ones."""


@cache
def _server() -> PineconeServer:
    """One for all tests of a process, with an index for each."""
    return PineconeServer().__enter__()


class AnnPlace:
    """One folder with a folder per model."""

    def __init__(self, folder: Path, flat_below: int) -> None:
        self._folder, self._flat_below = folder, flat_below

    def open(self, card: ModelCard) -> VectorStore:
        """See `Place.open`."""
        with IndexWriter(self._folder / f"index of {card.fingerprint}") as writer:
            writer.begin(card, {}, ROOT, "parquet")
            assert writer.index is not None
            return open_store("ann", writer.index, directory=self._folder, flat_below=self._flat_below)

    def settle(self, store: VectorStore) -> None:
        """What is committed can be read."""


PLACES: Mapping[str, Callable[[Path], Place]] = {
    "parquet": lambda folder: TablePlace(folder, "parquet"),
    "csv": lambda folder: TablePlace(folder, "csv"),
    "pinecone documents": lambda folder: PineconePlace(folder, "documents"),
    "pinecone vectors": lambda folder: PineconePlace(folder, "vectors"),
    "ann": lambda folder: AnnPlace(folder, 8192),
    "ann with lists": lambda folder: AnnPlace(folder, 20),
}

# Two models whose vectors have the same length and must not mix all the same.
CARD, OTHER_CARD = make_card(), make_card(weights="sha256:another")
