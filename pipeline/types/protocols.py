"""The protocols between rooms: describers, stores, rerankers, and where rerankers read descriptors.

Rooms that do not know each other meet here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeGuard

import numpy as np
import numpy.typing as npt

from pipeline.types.descriptors import (
    Description,
    FeatureMaps,
    FloatArray,
    GlobalDescriptors,
    Keypoints,
    LocalDescriptors,
    Prepared,
    StoredVectors,
)
from pipeline.types.explanations import Explanation
from pipeline.types.images import Box
from pipeline.types.model_card import ModelCard
from pipeline.types.rankings import Candidates, FurtherSearch


class Describer(Protocol):
    """Turns pictures into descriptors.

    `prepare` runs on a reader's thread, `describe` on the model's; pictures whose `Prepared.shape` is equal may
    share a batch.
    """

    @property
    def card(self) -> ModelCard:
        """What made the descriptors. Raises RelookError while a projection still has to be fitted."""

    def prepare(self, image: npt.NDArray[np.uint8], bbox: Box | None = None) -> Prepared:
        """Resize an upright RGB picture [H, W, 3] uint8 (or the `bbox` of it) to what the network reads."""

    def describe(self, batch: Sequence[Prepared]) -> list[Description]:
        """Describe pictures of one `shape`, in order."""


class FittableDescriber(Describer, Protocol):
    """A describer with projections that are fitted on a gallery, such as a PCA, and kept with its index."""

    @property
    def to_fit(self) -> tuple[str, ...]:
        """Which projections ("globals", "locals", "maps") still have to be fitted."""

    def fit(self, batches: Iterable[Sequence[Prepared]]) -> None:
        """Fit the projections of `to_fit` on these images. Raises RelookError when they are too few."""

    def observe(self, batch: Sequence[Prepared]) -> Any:
        """Run the network on pictures of one `shape`, without the projections.

        The result has `bytes`, the memory that it takes, and `on_cpu()`, a copy outside the device's memory.
        """

    @property
    def fits_on_labels(self) -> bool:
        """Whether a projection of `to_fit` is learnt from labels, which `fit_on` then needs."""

    def fit_on(self, outputs: Iterable[Any], labels: Sequence[str] = ()) -> None:
        """`fit` on what `observe` returned. `labels` are those of its pictures, read after the last of the outputs."""

    def describe_output(self, output: Any) -> list[Description]:
        """`describe` for the pictures that `observe` was given, without running the network again."""

    def fitted(self) -> Mapping[str, FloatArray]:
        """The fitted projections as named arrays; `use_fitted` is the inverse."""

    def use_fitted(self, arrays: Mapping[str, FloatArray]) -> None:
        """Use projections that were fitted before. Raises RelookError when they are of other dimensions."""


class VectorStore(Protocol):
    """Global descriptors at rest, and who is nearest to whom.

    A store is opened for one model: the vectors of each fingerprint have a namespace of their own, and all methods but
    `namespaces` see that namespace alone.

    Attributes:
        index_backed: it reads the index's own tables, so that it always holds what the index does and is never synced.
        hosted: it is a `HostedStore`: writes cost and are read later (`is_hosted` narrows the type).
        max_results: the most results that a query can have; None: any number.
    """

    index_backed: bool
    hosted: bool
    max_results: int | None

    def query(
        self, vectors: FloatArray, top_k: int, where: Mapping[str, Sequence[str]] | None = None
    ) -> list[tuple[list[str], FloatArray]]:
        """The `top_k` nearest by cosine of each row of `vectors` [Q, D]: ids, and scores, descending, ties by id.

        `where` keeps records whose metadata has one of the given values, such as {"split": ["val"]}.
        """

    def upsert(self, descriptors: GlobalDescriptors, metadata: Sequence[Mapping[str, str]]) -> None:
        """Write N vectors and their metadata; an id that exists is replaced."""

    def fetch(self, ids: Sequence[str]) -> FloatArray:
        """The vectors of `ids` [N, D], in their order. Raises RelookError that names an id the store lacks."""

    def read(self, ids: Sequence[str]) -> StoredVectors:
        """Vectors and metadata of those of `ids` that the store holds, in their order; the others are left out."""

    def delete(self, ids: Sequence[str]) -> int:
        """Forget these ids; returns how many of them existed."""

    def ids(self) -> Iterator[str]:
        """All ids, sorted."""

    def stats(self) -> Mapping[str, Any]:
        """At least "count", "dimension" and "fingerprint"."""

    def namespaces(self) -> Mapping[str, int]:
        """How many vectors lie there of each model, by fingerprint; models without any may be left out."""

    def damaged_files(self) -> list[str]:
        """Files that the store makes from its vectors and that are damaged, one line each; others have none."""

    def rebuild(self) -> None:
        """Make those files from the vectors, all of them."""


@dataclass(frozen=True)
class WriteCost:
    """What it takes to write `records`: `bytes` of requests, and the write `units` that a service counts."""

    records: int = 0
    bytes: int = 0
    units: int = 0

    def __add__(self, other: WriteCost) -> WriteCost:
        """Both together."""
        return WriteCost(self.records + other.records, self.bytes + other.bytes, self.units + other.units)


class HostedStore(VectorStore, Protocol):
    """A vector store in somebody's service: writes cost and are read later, and several models lie side by side."""

    def place(self) -> str:
        """The service and the part of it that holds this model, in one line; a new one when it is created again."""

    def prepare(self) -> None:
        """Make the place where there is none."""

    def settle(self, count: int, tick: Callable[[int], None]) -> int:
        """Wait until what was written can be searched and `count` vectors are counted; returns how many are.

        `tick` is told each new count. Raises RelookError when the writes cannot be read in the time that is set.
        """

    def cost(self, rows: StoredVectors) -> WriteCost:
        """What writing these rows takes where none of them exists."""

    def current(self) -> str | None:
        """The fingerprint of the model that searches use; None before the first was promoted."""

    def promote(self) -> None:
        """Make this model the current one, in one step."""

    def prunable(self) -> Mapping[str, int]:
        """What `prune` would delete: how many vectors there are of each, by fingerprint."""

    def prune(self) -> Mapping[str, int]:
        """Delete all models but this and the current one, if relook made them; returns their numbers of vectors."""

    def import_parts(self, uri: str, tick: Callable[[float], None]) -> None:
        """Have the service read the index's Parquet parts from object storage; `tick` is told the percentage done."""


def is_hosted(store: VectorStore) -> TypeGuard[HostedStore]:
    """Whether the store is in a service."""
    return store.hosted


class DescriptorSource(Protocol):
    """Where a reranker reads the candidates' descriptors."""

    def globals(self, ids: Sequence[str]) -> FloatArray:
        """[N, D] float32, in the order of `ids`."""

    def locals(self, ids: Sequence[str]) -> list[LocalDescriptors]:
        """In the order of `ids`. Raises RelookError where the index holds no locals."""

    def maps(self, ids: Sequence[str]) -> list[FeatureMaps]:
        """In the order of `ids`; float16. Raises RelookError where the index holds no maps."""

    def keypoints(self, ids: Sequence[str]) -> list[Keypoints]:
        """In the order of `ids`: those that the index keeps, else extracted from the photos now."""

    def regions(self, ids: Sequence[str]) -> list[Box]:
        """x0, y0, x1, y1 of what was described of each, in pixels of the upright original."""


class Reranker(Protocol):
    """Scores the candidates of many queries at once."""

    @property
    def needs(self) -> frozenset[str]:
        """Of what it reads: "globals", "locals", "maps", "keypoints"."""

    def check(self, card: ModelCard) -> None:
        """Raises RelookError when it cannot read descriptors of this card, and says what differs."""

    def bind(self, card: ModelCard) -> Self:
        """This reranker, ready for descriptors of `card`. Raises as `check` does."""

    def score(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FloatArray]:
        """One float32 array per query, as long as its candidates, higher is better, comparable within a query."""


class SearchingReranker(Reranker, Protocol):
    """A reranker that wants images beyond the candidates, such as the neighbours of an expanded query."""

    def further_searches(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FurtherSearch]:
        """What to search of each query; the images found join its candidates, which `score` then gets."""


def searches_further(reranker: Reranker) -> TypeGuard[SearchingReranker]:
    """Whether the reranker wants further searches."""
    return hasattr(reranker, "further_searches")


class ExplainingReranker(Reranker, Protocol):
    """A reranker that can say why it scored an image as it did."""

    def explain(
        self, query: Description, candidates: Candidates, ids: Sequence[str], gallery: DescriptorSource
    ) -> list[Explanation]:
        """The reasons for `ids`, in order.

        Args:
            query: what was searched.
            candidates: of this query alone: those that were scored together, in the order that they had then, with
                what earlier rerankers of the chain gave them; its scores are the global similarities.
            ids: some of them.
            gallery: where their descriptors are read.
        """


def explains(reranker: Reranker) -> TypeGuard[ExplainingReranker]:
    """Whether the reranker can explain its scores."""
    return hasattr(reranker, "explain")
