"""`map`: every image of an index as a point of a plane, near to those that it resembles.

Reads the index alone. No network is loaded.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipeline.config import Config
from pipeline.errors import RelookError, UsageError
from pipeline.stores import Index
from pipeline.types import FloatArray
from pipeline.workflow.collection import clusters, principal_components
from pipeline.workflow.progress import Reporter, Silent

Method = Literal["pca", "umap"]
METHODS: tuple[Method, ...] = ("pca", "umap")
# Clusters of k-means: as many as a legend can name.
_CLUSTERS = 12
# A map of fewer images says nothing.
_FEWEST = 3


@dataclass(frozen=True)
class MapResult:
    """The images in the order of the index.

    Attributes:
        index: the index directory.
        method: "pca" or "umap".
        ids, paths, labels: N of each; "" where an image has no label.
        xy: N pairs, from 0 to 1.
        clusters: N numbers from 0, the largest cluster first.
        seconds: of the run.
    """

    index: str
    method: str
    ids: list[str]
    paths: list[str]
    labels: list[str]
    xy: list[list[float]]
    clusters: list[int]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return asdict(self)


def map_(config: Config, method: str = "pca", reporter: Reporter | None = None) -> MapResult:
    """Place the images.

    Args:
        config: `index` and `seed` matter here.
        method: "pca": the first two principal components, in seconds. "umap": neighbourhoods are kept, which shows
            groups; it takes minutes for 100,000 images.
        reporter: told about the progress.

    Raises:
        UsageError: no such method.
        RelookError: umap-learn is not installed; there is no index, or it is damaged or has too few images.
    """
    if method not in METHODS:
        raise UsageError(f"--method {method}: expected {' or '.join(METHODS)}")
    started = time.monotonic()
    index = Index(config.index)
    images = index.manifest.counts.get("images", 0)
    if images < _FEWEST:
        raise RelookError(f"{config.index}: {images} images; a map needs at least {_FEWEST}")
    steps = 3 if method == "umap" else 2
    with (reporter or Silent()).bar("map", steps, "steps") as bar:
        components = principal_components(index)
        bar.advance(note="principal components")
        found = clusters(components, _CLUSTERS, config.seed)
        bar.advance(note="clusters")
        places = components[:, :2]
        if method == "umap":
            places = _umap(components, config.seed)
            bar.advance(note="umap")
    low = places.min(axis=0)
    # One scale for both axes: a distance is the same in every direction.
    places = (places - low) / (float((places.max(axis=0) - low).max()) or 1.0)
    records = [record for part in index.manifest.parts for record in index.records_of(part)]
    return MapResult(
        index=str(config.index),
        method=method,
        ids=[record.id for record in records],
        paths=[str(index.image_file(record)) for record in records],
        labels=[record.label for record in records],
        xy=places.round(5).tolist(),
        clusters=found.tolist(),
        seconds=round(time.monotonic() - started, 2),
    )


def _umap(components: FloatArray, seed: int) -> FloatArray:
    try:
        from umap import UMAP
    except ImportError:
        raise RelookError("--method umap: umap-learn is not installed; pip install 'relook[umap]'") from None
    neighbours = min(15, len(components) - 1)
    # With few points the spectral start has no solution.
    start = "spectral" if len(components) > 2 * neighbours else "random"
    placed: FloatArray = UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1, init=start).fit_transform(components)
    return placed
