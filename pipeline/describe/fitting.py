"""The projections that a describer fits on its gallery: of globals, locals and maps.

Between the describer and `projections.py`: decides which are needed, gathers the samples they are fitted on, applies
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional

from pipeline.config import DescribeConfig
from pipeline.describe.projections import Projection, digest, fit_pca, from_arrays, to_arrays
from pipeline.errors import RelookError
from pipeline.types import FloatArray

# Cells that a PCA is fitted on; more change nothing and cost memory (64 MB at 1,280 channels).
_FIT_CELLS = 12_800

NAMES = ("globals", "locals", "maps")


class Samples:
    """What projections are fitted on, gathered batch by batch."""

    def __init__(self, config: DescribeConfig) -> None:
        self._pictures = config.fit_images
        self._locals = config.locals
        self._map_cells = max(1, _FIT_CELLS // config.fit_images)
        self._rows: dict[str, list[FloatArray]] = {name: [] for name in NAMES}

    def add(self, vectors: torch.Tensor, cells: torch.Tensor | None, maps: Sequence[torch.Tensor] | None) -> None:
        """Take vectors [B, D], the features of cells [B, n, C] and maps [B, C, h, w] per level."""
        self._rows["globals"].append(vectors.cpu().numpy())
        if cells is not None:
            whole = self._locals.kind == "map"
            count = cells.shape[1] if whole else self._locals.count
            chosen = cells[:, :: max(1, count * self._pictures // _FIT_CELLS)].flatten(0, 1)
            self._rows["locals"].append((chosen if whole else functional.normalize(chosen, dim=-1)).cpu().numpy())
        if maps:
            flat = max(maps, key=lambda level: level.shape[-1]).flatten(2).transpose(1, 2)
            step = max(1, flat.shape[1] // self._map_cells)
            self._rows["maps"].append(flat[:, ::step].flatten(0, 1).cpu().numpy())

    def of(self, name: str) -> FloatArray:
        """All rows gathered for a projection. Raises RelookError when there are none."""
        if not self._rows[name]:
            raise RelookError("no picture could be read to fit the projections on")
        return np.concatenate(self._rows[name])


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
            self._projections[name] = fit_pca(samples.of(name), size, whiten=name == "globals", what=what)

    def apply(self, name: str, values: torch.Tensor, *, unit: bool = True) -> torch.Tensor:
        """Project [..., D] where that is needed, to rows of unit length or as long as they come out."""
        if name not in self._projections:
            return values
        projection = self._projections[name]
        return projection.apply(values) if unit else projection.project(values)
