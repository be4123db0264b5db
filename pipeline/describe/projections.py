"""Linear projections fitted on a gallery: PCA for locals and maps, PCA-whitening for globals, also from labels.

Fitted once when an index is begun, kept beside its model card, and applied to every later picture and query.
Jegou and Chum, "Negative evidences and co-occurrences in image retrieval: the benefit of PCA and whitening", ECCV 2012.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config import DescribeConfig
from pipeline.describe.pair_whitening import Doubles, whitening_from_pairs
from pipeline.errors import RelookError
from pipeline.types import FloatArray

if TYPE_CHECKING:
    import torch

# Cells that a PCA is fitted on; more change nothing and cost memory (64 MB at 1,280 channels).
_FIT_CELLS = 12_800

NAMES = ("globals", "locals", "maps")


class Samples:
    """What projections are fitted on, gathered batch by batch.

    Attributes:
        unit: whether cells have unit length before they are added.
        labels: of the pictures in their order, where a projection is learnt from them.
    """

    def __init__(self, config: DescribeConfig) -> None:
        self._pictures = config.fit_images
        self._count = config.locals.count
        self.unit = config.locals.kind != "map"
        self._map_cells = max(1, _FIT_CELLS // config.fit_images)
        self._rows: dict[str, list[FloatArray]] = {name: [] for name in NAMES}
        self.labels: Sequence[str] = ()

    def cell_step(self, cells: int) -> int:
        """The step from one cell that is added to the next, for an image with this number of cells."""
        return max(1, (self._count if self.unit else cells) * self._pictures // _FIT_CELLS)

    def map_step(self, cells: int) -> int:
        """The same of its largest feature map."""
        return max(1, cells // self._map_cells)

    def add(self, vectors: FloatArray, cells: FloatArray | None, maps: FloatArray | None) -> None:
        """Take vectors [B, D], chosen cells [n, C] of the same pictures, and cells [n, C] of their maps."""
        for name, rows in zip(NAMES, (vectors, cells, maps), strict=True):
            if rows is not None:
                self._rows[name].append(rows)

    def of(self, name: str) -> FloatArray:
        """All rows gathered for a projection, once. Raises RelookError when there are none."""
        rows = self._rows.pop(name)
        if not rows:
            raise RelookError("no picture could be read to fit the projections on")
        return np.concatenate(rows)


class Fitted:
    """The fitted projections of one describer.

    Args:
        config: says which are needed.
        widths: channels by name before projection.
    """

    def __init__(self, config: DescribeConfig, widths: Mapping[str, int]) -> None:
        self._projections: dict[str, Projection] = {}
        self._widths = widths
        self._wanted: dict[str, tuple[int, int]] = {}
        self._globals = config.globals
        local, maps = config.locals, config.maps
        if config.globals.whiten:
            self._wanted["globals"] = (widths["globals"], config.globals.whiten)
        if local.count and local.dimension:
            self._wanted["locals"] = (widths["locals"], local.dimension)
        if maps.levels and maps.projection == "pca":
            self._wanted["maps"] = (widths["maps"], maps.dimension)
        for name in ("locals", "maps"):  # what is narrow enough already stays as it is
            if name in self._wanted and self._wanted[name][0] <= self._wanted[name][1]:
                del self._wanted[name]

    @property
    def missing(self) -> tuple[str, ...]:
        """Names that are needed and not there yet."""
        return tuple(name for name in self._wanted if name not in self._projections)

    def check(self) -> None:
        """Raises RelookError while something is missing."""
        if self.missing:
            raise RelookError(f"the projections of {', '.join(self.missing)} have not been fitted")

    @property
    def fits_on_labels(self) -> bool:
        """Whether one that is missing is learnt from labels."""
        return "globals" in self.missing and self._globals.whitening == "pairs"

    def do_without(self, name: str) -> None:
        """Something else projects `name`."""
        self._wanted.pop(name, None)

    @property
    def digest(self) -> str:
        """ "sha256:..." of all values, "" for none."""
        return digest(self._projections)

    def width(self, name: str) -> int:
        """Channels of `name` after its projection."""
        return self._wanted[name][1] if name in self._wanted else self._widths[name]

    def arrays(self) -> dict[str, FloatArray]:
        """Named arrays for a file; `use` is the inverse."""
        return to_arrays(self._projections)

    def use(self, arrays: Mapping[str, FloatArray]) -> None:
        """Take what was fitted before. Raises RelookError when it is of other dimensions."""
        projections = from_arrays({key: value for key, value in arrays.items() if key.split(".")[0] in NAMES})
        for name in self.missing:
            found = projections[name].matrix.shape if name in projections else None
            if found != self._wanted[name]:
                raise RelookError(f"the fitted projection of {name} is {found}, expected {self._wanted[name]}")
            self._projections[name] = projections[name]

    def fit(self, samples: Samples) -> None:
        """Fit what is missing. Raises RelookError when there are too few samples."""
        for name in self.missing:
            what = "describe.globals.whiten" if name == "globals" else f"describe.{name}.dimension"
            size = self._wanted[name][1]
            if name == "globals" and self._globals.whitening == "pairs":
                vectors = samples.of(name)
                self._projections[name] = fit_pairs(vectors, samples.labels, size, self._globals.shrinkage, what=what)
                continue
            self._projections[name] = fit_pca(samples.of(name), size, whiten=name == "globals", what=what)

    def apply(self, name: str, values: torch.Tensor, *, unit: bool = True) -> torch.Tensor:
        """Project [..., D] where that is needed, to rows of unit length or as long as they come out."""
        if name not in self._projections:
            return values
        projection = self._projections[name]
        return projection.apply(values) if unit else projection.project(values)


@dataclass(frozen=True)
class Projection:
    """x -> (x - mean) @ matrix, with `mean` [D] and `matrix` [D, d] float32."""

    mean: FloatArray
    matrix: FloatArray

    def apply(self, vectors: torch.Tensor) -> torch.Tensor:
        """Project [..., D] to [..., d], rows of unit length."""
        from torch.nn import functional

        return functional.normalize(self.project(vectors), dim=-1)

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        """Project [..., D] to [..., d], rows as long as they come out."""
        import torch

        mean = torch.from_numpy(self.mean).to(vectors.device)
        matrix = torch.from_numpy(self.matrix).to(vectors.device)
        return (vectors - mean) @ matrix


def fit_pca(samples: FloatArray, dimension: int, *, whiten: bool, what: str) -> Projection:
    """Fit a PCA on samples [N, D], which are used in float64.

    Args:
        samples: rows of unit length.
        dimension: how many components are kept, at most D.
        whiten: divide each component by its standard deviation.
        what: named in errors, such as "describe.globals.whiten".

    Raises:
        RelookError: `dimension` is larger than D, or there are too few samples for the whitening.
    """
    count, width = samples.shape
    if dimension > width:
        raise RelookError(f"{what}: {dimension} dimensions out of {width} are not possible")
    if whiten and count <= dimension:
        raise RelookError(
            f"{what}: whitening to {dimension} dimensions needs more than {dimension} pictures, not {count} "
            "(describe.fit_images says how many are used)"
        )
    mean = samples.mean(axis=0, dtype=np.float64)
    centred = samples - mean
    variances, vectors = np.linalg.eigh(centred.T @ centred / max(count - 1, 1))
    matrix = vectors[:, ::-1][:, :dimension]
    matrix = _signed(matrix)
    if whiten:
        matrix = matrix / np.sqrt(np.maximum(variances[::-1][:dimension], 1e-12))
    return Projection(mean.astype(np.float32), np.ascontiguousarray(matrix, dtype=np.float32))


def fit_pairs(samples: FloatArray, labels: Sequence[str], dimension: int, shrinkage: float, *, what: str) -> Projection:
    """Fit a whitening on samples [N, D] with labels; see `whitening_from_pairs`.

    Raises:
        RelookError: `dimension` is larger than D, or there are too few samples, or no two of one label.
    """
    count, width = samples.shape
    if dimension > width:
        raise RelookError(f"{what}: {dimension} dimensions out of {width} are not possible")
    labelled = [label for label in labels if label]
    if len(labels) != count or len(set(labelled)) == len(labelled):
        raise RelookError(f"{what}: whitening from pairs needs images with labels, at least two of one label")
    if len(labelled) <= dimension:
        raise RelookError(
            f"{what}: whitening to {dimension} dimensions needs more than {dimension} labelled pictures, not "
            f"{len(labelled)} (describe.fit_images says how many are used)"
        )
    mean, matrix = whitening_from_pairs(samples, labels, dimension, shrinkage)
    return Projection(mean.astype(np.float32), np.ascontiguousarray(_signed(matrix), dtype=np.float32))


def _signed(matrix: Doubles) -> Doubles:
    """An eigenvector's sign is arbitrary; fixing it makes a fit the same on every machine."""
    return np.asarray(matrix * np.sign(matrix[np.abs(matrix).argmax(axis=0), np.arange(matrix.shape[1])]))


def to_arrays(projections: Mapping[str, Projection]) -> dict[str, FloatArray]:
    """Projections as named arrays, for a file; `from_arrays` is the inverse."""
    return {
        f"{name}.{key}": array
        for name, projection in projections.items()
        for key, array in (("mean", projection.mean), ("matrix", projection.matrix))
    }


def from_arrays(arrays: Mapping[str, FloatArray]) -> dict[str, Projection]:
    """Raises KeyError when a mean has no matrix."""
    names = {key.rsplit(".", 1)[0] for key in arrays}
    return {name: Projection(arrays[f"{name}.mean"], arrays[f"{name}.matrix"]) for name in sorted(names)}


def digest(projections: Mapping[str, Projection]) -> str:
    """ "sha256:..." of all values, "" for none."""
    if not projections:
        return ""
    sha = hashlib.sha256()
    for key, array in sorted(to_arrays(projections).items()):
        sha.update(f"{key}{array.shape}".encode())
        sha.update(array.tobytes())
    return f"sha256:{sha.hexdigest()}"
