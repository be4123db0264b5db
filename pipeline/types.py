"""The nouns that cross rooms: plain frozen dataclasses over arrays, and the three protocols between rooms.

They stand below every other module: nothing here imports from relook but its errors.
Names are the field's: descriptor, gallery, query, candidate, ranking.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
FeatureMaps = tuple[npt.NDArray[np.floating[Any]], ...]
IMPORTED = "imported"  # the name on the card of descriptors that another program made
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class ImageRecord:
    """One image that exists.

    Attributes:
        id: unique in its catalog; the name of the image in every store.
        path: where its file lies, relative to the catalog's root (or absolute), with forward slashes.
        label: what it shows; "" for a distractor or when nobody said.
        split: the part of the data set it belongs to, "" when there is one part only.
        bbox: x0, y0, x1, y1 in pixels of the upright original: only this part is described. None: all of it.
        width, height: size in pixels of the upright original; 0 until it was read.
        size: bytes of the file; 0 until it was read.
        mtime_ns: modification time of the file in nanoseconds; 0 until it was read.
        sha256: of the file's bytes, hexadecimal; "" until it was read.
    """

    id: str
    path: str
    label: str = ""
    split: str = ""
    bbox: Box | None = None
    width: int = 0
    height: int = 0
    size: int = 0
    mtime_ns: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class GroundTruth:
    """The right answers that a data set publishes for its queries; `pipeline.evaluate` scores rankings by it.

    Attributes:
        dataset: the registry name of the data set.
        protocol: the name of its authors' protocol in `pipeline.evaluate`.
        root: the folder that the queries' paths start from.
        queries: Q images that are asked with, ids unique among them; a `bbox` is all that is shown of one. Those that
            the data set tells to ignore are not here. Empty: every labelled image of the gallery asks.
        groups: for a name such as "easy", "hard", "junk" or "positive", Q sequences of ids of the gallery. The group
            "label" holds labels instead, any of which is right. No groups: positives have the query's label.
        ignored: how many queries of the published list are not here because it tells to ignore them.
    """

    dataset: str
    protocol: str
    root: Path
    queries: tuple[ImageRecord, ...] = ()
    groups: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    ignored: int = 0


@dataclass(frozen=True)
class GlobalDescriptors:
    """`ids` (N of them) and `vectors` [N, D] float32, each row of unit length."""

    ids: Sequence[str]
    vectors: FloatArray


@dataclass(frozen=True)
class StoredVectors:
    """What a store holds of some ids: `ids` (N), `vectors` [N, D] float32, `metadata` (N mappings of strings)."""

    ids: Sequence[str]
    vectors: FloatArray
    metadata: Sequence[Mapping[str, str]]

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, numbers: Sequence[int] | npt.NDArray[np.integer[Any]]) -> StoredVectors:
        """Some of the rows, in the order of `numbers`."""
        chosen = np.asarray(numbers, dtype=np.intp)
        return StoredVectors(
            [self.ids[row] for row in chosen], self.vectors[chosen], [self.metadata[row] for row in chosen]
        )


@dataclass(frozen=True)
class LocalDescriptors:
    """The n local descriptors of one image, strongest first.

    Attributes:
        descriptors: [n, d] float32, rows of unit length, unless the model card's `locals` says that they are a whole
            map (kind: map), whose cells are as long as the network, or the PCA of `dimension` values, left them; or
            projected for AMES (+1 and -1 where they are bits).
        xy: [n, 2] float32, x and y in pixels of the upright original.
        scale: [n] float32, the size of what was seen, relative to what is seen at the image's own size: 1 over the
            factor by which the image was resized (the convention of DELF's files).
        weight: [n] float32, the strength by which it was chosen, at least 0.

    `xy`, `scale` and `weight` have no rows where the index does not keep them (`describe.locals.geometry`).
    """

    descriptors: FloatArray
    xy: FloatArray
    scale: FloatArray
    weight: FloatArray

    def __len__(self) -> int:
        return len(self.descriptors)

    def first(self, count: int | None) -> LocalDescriptors:
        """The first `count`, which are the strongest; all where `count` is None."""
        return LocalDescriptors(self.descriptors[:count], self.xy[:count], self.scale[:count], self.weight[:count])


@dataclass(frozen=True)
class Description:
    """What a describer says of one image.

    Attributes:
        vector: [D] float32 of unit length, the global descriptor.
        locals: its local descriptors, or None.
        maps: one [C, h, w] float16 or float32 array per level of the maps that CVNet-Rerank compares, or None.
    """

    vector: FloatArray
    locals: LocalDescriptors | None = None
    maps: FeatureMaps | None = None


@dataclass(frozen=True)
class Candidates:
    """The first answers of a store, best first.

    Attributes:
        query_ids: Q names.
        ids: Q lists of at most K ids (shorter where the store holds less).
        scores: Q float32 arrays as long as the lists: cosine similarities in [-1, 1], descending, ties by id.
    """

    query_ids: Sequence[str]
    ids: Sequence[Sequence[str]]
    scores: Sequence[FloatArray]


@dataclass(frozen=True)
class Ranking:
    """The answer to one query, best first.

    Attributes:
        query_id: the query's name.
        ids: K ids.
        scores: [K] float32; the re-ranked head of the list has the fused score, the rest the global similarity.
        explanation: arrays of K beside the ids: "global_rank" (from 1), "global_score", and one per reranker.
    """

    query_id: str
    ids: Sequence[str]
    scores: FloatArray
    explanation: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelCard:
    """What made a set of descriptors: all that must be equal for two of them to be comparable.

    Attributes:
        name: the describer's registry name.
        architecture: the backbone's name.
        weights: "sha256:..." of the weights, or "random weights (seed 0)".
        settings: resolved preprocessing, pooling, scales and local selection; plain JSON values.
        fitted: "sha256:..." of the projections fitted on a gallery, "" where there are none.
        dimension: D of the global descriptors.
        local_dimension: d of the local descriptors, 0 where there are none.
    """

    name: str
    architecture: str
    weights: str
    settings: Mapping[str, Any]
    fitted: str
    dimension: int
    local_dimension: int

    @property
    def random(self) -> bool:
        """Whether the weights were never trained: whatever is printed of them has to say so."""
        return self.weights.startswith("random")

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits; equal exactly when everything on the card is."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """The card as plain JSON values; `from_json` is the inverse."""
        return {
            "name": self.name,
            "architecture": self.architecture,
            "weights": self.weights,
            "settings": dict(self.settings),
            "fitted": self.fitted,
            "dimension": self.dimension,
            "local_dimension": self.local_dimension,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelCard:
        """Raises KeyError or TypeError when `values` is no card."""
        return cls(**{key: values[key] for key in cls.__dataclass_fields__})

    def differences(self, other: ModelCard) -> list[str]:
        """One "key: mine here, theirs there" for every value that differs."""
        mine, theirs = _flatten(self.to_json()), _flatten(other.to_json())
        return [
            f"{key}: {mine.get(key)!r} here, {theirs.get(key)!r} there"
            for key in sorted(mine.keys() | theirs.keys())
            if mine.get(key) != theirs.get(key)
        ]


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


@dataclass(frozen=True)
class Prepared:
    """One picture, ready for the network.

    Attributes:
        pixels: one [3, h, w] uint8 array per scale.
        to_original: per scale, (sx, sy, dx, dy): x_original = x_pixel * sx + dx, and so for y.
        scales: the nominal factor of each entry.
        width, height: size in pixels of the upright original.
    """

    pixels: Sequence[npt.NDArray[np.uint8]]
    to_original: Sequence[tuple[float, float, float, float]]
    scales: Sequence[float]
    width: int
    height: int

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """Equal for pictures that can share a batch."""
        return tuple(p.shape for p in self.pixels)


class VectorStore(Protocol):
    """Global descriptors at rest, and who is nearest to whom.

    A store is opened for one model: the vectors of each fingerprint have a namespace of their own, and all methods but
    `namespaces` look at that of the model alone.
    """

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


@dataclass(frozen=True)
class WriteCost:
    """What it takes to write `records`: `bytes` of requests, and the write `units` that a service counts."""

    records: int = 0
    bytes: int = 0
    units: int = 0

    def __add__(self, other: WriteCost) -> WriteCost:
        """Both together."""
        return WriteCost(self.records + other.records, self.bytes + other.bytes, self.units + other.units)


@runtime_checkable
class HostedStore(VectorStore, Protocol):
    """A vector store in somebody's service: writes cost and are read later, and several models lie side by side."""

    def place(self) -> str:
        """The service and the part of it that holds this model, in one line; another one after it was made anew."""

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

    def prune(self) -> Mapping[str, int]:
        """Delete all models but this and the current one; returns how many vectors of each there were."""

    def import_parts(self, uri: str, tick: Callable[[float], None]) -> None:
        """Have the service read the index's Parquet parts from object storage; `tick` is told the percentage done."""


class DescriptorSource(Protocol):
    """Where a reranker reads the candidates' descriptors."""

    def globals(self, ids: Sequence[str]) -> FloatArray:
        """[N, D] float32, in the order of `ids`."""

    def locals(self, ids: Sequence[str]) -> list[LocalDescriptors]:
        """In the order of `ids`. Raises RelookError where the index holds no locals."""

    def maps(self, ids: Sequence[str]) -> list[FeatureMaps]:
        """In the order of `ids`; float16. Raises RelookError where the index holds no maps."""


class Reranker(Protocol):
    """Looks again at the candidates of many queries at once."""

    @property
    def needs(self) -> frozenset[str]:
        """Of what it reads: "globals", "locals", "maps"."""

    def check(self, card: ModelCard) -> None:
        """Raises RelookError when it cannot read descriptors of this card, and says what differs."""

    def score(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FloatArray]:
        """One float32 array per query, as long as its candidates, higher is better, comparable within a query."""


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
