"""Where the contract suite opens each kind of store; a new store is one class and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from stores_helpers import ROOT, make_card

from pipeline.stores import IndexWriter, TableStore
from pipeline.stores.manifest import TableFormat
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


PLACES: Mapping[str, Callable[[Path], Place]] = {
    "parquet": lambda folder: TablePlace(folder, "parquet"),
    "csv": lambda folder: TablePlace(folder, "csv"),
}

# Two models whose vectors have the same length and must not mix all the same.
CARD, OTHER_CARD = make_card(), make_card(weights="sha256:another")
