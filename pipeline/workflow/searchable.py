"""What a search or an evaluation needs of a gallery.

The class is in `gallery.py`, which calls both.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from pipeline.config import Config
from pipeline.stores import Index
from pipeline.types import Describer, Description, DescriptorSource, VectorStore


class SearchableGallery(DescriptorSource, Protocol):
    """One generation of an index, with its store and its describer.

    Attributes:
        config: of the run.
        index: the generation.
    """

    config: Config
    index: Index

    @property
    def store(self) -> VectorStore:
        """Where candidates come from."""

    @property
    def describer(self) -> Describer:
        """What pictures are described with."""

    def describe(self, ids: Sequence[str], needs: Collection[str]) -> list[Description]:
        """Stored descriptors of images of the index: global ones, and of the rest what rerankers need."""

    def with_store(self, kind: str) -> SearchableGallery:
        """The same index, searched in another store."""
