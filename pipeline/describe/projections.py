"""Linear projections fitted on a gallery without labels: PCA for locals and maps, PCA-whitening for globals.

Fitted once when an index is begun, kept beside its model card, and applied to every later picture and query.
Jegou and Chum, "Negative evidences and co-occurrences in image retrieval: the benefit of PCA and whitening", ECCV 2012.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from pipeline.errors import RelookError
from pipeline.types import FloatArray


@dataclass(frozen=True)
class Projection:
    """x -> (x - mean) @ matrix, with `mean` [D] and `matrix` [D, d] float32."""

    mean: FloatArray
    matrix: FloatArray

    def apply(self, vectors: torch.Tensor) -> torch.Tensor:
        """Project [..., D] to [..., d], rows of unit length."""
        return functional.normalize(self.project(vectors), dim=-1)

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        """Project [..., D] to [..., d], rows as long as they come out."""
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
    # An eigenvector's sign is arbitrary; fixing it makes a fit the same on every machine.
    matrix = matrix * np.sign(matrix[np.abs(matrix).argmax(axis=0), np.arange(dimension)])
    if whiten:
        matrix = matrix / np.sqrt(np.maximum(variances[::-1][:dimension], 1e-12))
    return Projection(mean.astype(np.float32), np.ascontiguousarray(matrix, dtype=np.float32))


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
