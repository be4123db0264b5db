"""A describer without torch: an exported graph, run by a compiled runtime, and the rest of the pass in NumPy.

What an index carries, so that its queries are described without the network's library and without its weights
(`export.py` makes one from a `NetworkDescriber`, and compares both), and what describes the gallery by the default
network (`packaged_describer.py`). It computes what `network_pass.py`, `local_descriptors.py` and `projections.py` do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from pipeline.config import DescribeConfig, parse_config
from pipeline.describe.local_places import located
from pipeline.describe.preprocessing import Normalisation, prepare, prepare_reduced, smallest_for, ways_to_original
from pipeline.describe.runtimes.base import Session
from pipeline.errors import RelookError
from pipeline.imaging import ColourRule, Smallest
from pipeline.types import Box, Description, FloatArray, LocalDescriptors, ModelCard, Prepared

# What torch adds to a length before it divides by it, and to a variance before it takes its root.
_TINY, _OF_VARIANCE = np.float32(1e-12), np.float32(1e-5)
VECTOR, CELLS, ATTENTION = "vector", "cells", "attention"
# What the arrays of `GlobalHead.adapted` are named after.
ADAPTED = "adapted"
_BITS = "remap_local.0.W"
_KINDS = ("strongest", "attention", "map")
# Precisions of descriptors whose queries the graph may describe.
_PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class ExportedSpec:
    """What a graph needs to be known of, beside the model card.

    Attributes:
        patch: see `Backbone.patch`.
        cells: the output that local descriptors come from; "" where there are none.
        attention: whether an output says how much each cell matters.
        adapted: whether the fitted arrays hold a layer of `relook adapt`.
    """

    patch: int
    cells: str = ""
    attention: bool = False
    adapted: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Raises KeyError or TypeError where these are no such values; those of an older relook have no `adapted`."""
        adapted = bool(values.get("adapted", False))
        return cls(int(values["patch"]), str(values["cells"]), bool(values["attention"]), adapted)


class Cells(NamedTuple):
    """As `local_descriptors.Cells`, in NumPy."""

    features: FloatArray
    weight: FloatArray
    xy: FloatArray
    scale: npt.NDArray[np.int64]


@dataclass(frozen=True)
class GraphOutput:
    """What a graph gave for B pictures, before the projections: `network_pass.NetworkOutput` in NumPy.

    Attributes:
        vectors: [B, D] of unit length.
        cells: the chosen cells; None without local descriptors.
        to_original: per picture [S, 4], from the pixels that each scale read to the original's.
    """

    vectors: FloatArray
    cells: Cells | None
    to_original: list[npt.NDArray[np.float32]]

    def on_cpu(self) -> GraphOutput:
        """Itself."""
        return self

    @property
    def bytes(self) -> int:
        """The memory that it takes."""
        return self.vectors.nbytes + sum(part.nbytes for part in self.cells or ())


class GraphDescriber:
    """Runs a graph, and the rest of the pass in NumPy.

    Args:
        config: with an input that the graph can read.
        fitted: what `FittableDescriber.fitted` gave.
        spec: of the graph.
        session: the opened graph.

    Raises:
        RelookError: `fitted` lacks the adapted layer.
    """

    def __init__(
        self, config: DescribeConfig, fitted: Mapping[str, FloatArray], spec: ExportedSpec, session: Session
    ) -> None:
        self._config = config
        self._fitted, self._spec, self._session = dict(fitted), spec, session
        if spec.adapted and f"{ADAPTED}.weight" not in fitted:
            raise RelookError("the fitted projections lack the layer that relook adapt learnt")
        self._image = config.image
        self._normalise = Normalisation(config.image)
        self._local_scales = tuple(sorted(set(config.locals.scales))) if config.locals.count else ()
        self._scales = tuple(sorted({*config.globals.scales, *self._local_scales}))

    @property
    def icc(self) -> ColourRule:
        """See `NetworkDescriber.icc`."""
        return self._image.icc

    def prepare(self, image: npt.NDArray[np.uint8], bbox: Box | None = None) -> Prepared:
        """See `Describer.prepare`. Raises RelookError when the `bbox` lies outside the picture."""
        return prepare(image, bbox, self._image, self._scales, self._spec.patch)

    @property
    def smallest(self) -> Smallest | None:
        """What must be left of a photo's sides for `prepare_reduced`; None: photos are read in full."""
        return smallest_for(self._image, self._scales)

    def prepare_reduced(self, image: npt.NDArray[np.uint8], whole: tuple[int, int]) -> Prepared:
        """`prepare` for a photo of which `image` is a reduced one; `whole` is its (width, height)."""
        return prepare_reduced(image, whole, self._image, self._scales, self._spec.patch)

    def describe(self, batch: Sequence[Prepared]) -> list[Description]:
        """See `Describer.describe`."""
        return self.describe_output(self.observe(batch))

    def observe(self, batch: Sequence[Prepared]) -> GraphOutput:
        """See `FittableDescriber.observe`."""
        vectors: list[FloatArray] = []
        maps: list[FloatArray] = []
        attention: list[FloatArray] = []
        sizes: list[tuple[int, int]] = []
        for number, scale in enumerate(self._scales):
            images = self._normalise([item.pixels[number] for item in batch])
            found = self._session.run(images, self._outputs)
            if scale in self._config.globals.scales:
                vectors.append(found[VECTOR])
            if scale in self._local_scales:
                maps.append(found[self._spec.cells])
                sizes.append((images.shape[2], images.shape[3]))
                if self._spec.attention:
                    attention.append(found[ATTENTION])
        whole = unit(np.mean([unit(one) for one in vectors], axis=0, dtype=np.float32))
        if self._spec.adapted:
            weight, bias = (self._fitted[f"{ADAPTED}.{part}"] for part in ("weight", "bias"))
            whole = unit(whole @ weight.T + bias)
        if not maps:
            return GraphOutput(whole, None, [])
        cells = _all_cells(maps, sizes, attention)
        if self._config.locals.kind != "map":
            cells = _strongest(cells, self._config.locals.count)
        ways = [ways_to_original(item, self._local_scales, self._image, self._spec.patch) for item in batch]
        return GraphOutput(whole, cells, ways)

    def describe_output(self, output: GraphOutput) -> list[Description]:
        """See `FittableDescriber.describe_output`."""
        joined = self._projected("globals", output.vectors)
        if output.cells is None:
            return [Description(vector) for vector in joined]
        found = self._locals(output.cells, output.to_original)
        return [Description(*one) for one in zip(joined, found, strict=True)]

    @property
    def _outputs(self) -> list[str]:
        cells = [self._spec.cells] if self._local_scales else []
        return [VECTOR, *cells, *([ATTENTION] if self._spec.attention else [])]

    def _locals(self, cells: Cells, ways: Sequence[npt.NDArray[np.float32]]) -> list[LocalDescriptors]:
        settings = self._config.locals
        is_unit = settings.kind != "map"  # a cell's length is part of a map
        features = unit(cells.features) if is_unit else cells.features
        if any(key.startswith("remap_local.") for key in self._fitted):
            features = _for_ames(self._fitted, features)
        else:
            features = self._projected("locals", features, is_unit=is_unit)
        return located(features, cells.weight, cells.xy, cells.scale, ways, self._local_scales, settings.threshold)

    def _product(self, rows: FloatArray, matrix: FloatArray) -> FloatArray:
        """[..., D] times [D, d], on all cores."""
        return np.asarray(rows @ matrix, np.float32)

    def _projected(self, name: str, values: FloatArray, *, is_unit: bool = True) -> FloatArray:
        """See `Fitted.apply`."""
        if f"{name}.mean" not in self._fitted:
            return values
        found = self._product(values - self._fitted[f"{name}.mean"], self._fitted[f"{name}.matrix"])
        return unit(found) if is_unit else found


class ExportedDescriber(GraphDescriber):
    """Describes pictures as the describer of `card` does.

    Args:
        card: of the describer that was exported.
        fitted, spec, session: see `GraphDescriber`.

    Raises:
        RelookError: the card is of a describer that cannot be run without torch, or as for `GraphDescriber`.
    """

    to_fit: tuple[str, ...] = ()

    def __init__(self, card: ModelCard, fitted: Mapping[str, FloatArray], spec: ExportedSpec, session: Session) -> None:
        super().__init__(config_of(card), fitted, spec, session)
        self.card = card


def config_of(card: ModelCard) -> DescribeConfig:
    """The settings on a card. Raises RelookError where a describer of it cannot be run without torch."""
    image, locals_ = card.settings.get("image") or {}, card.settings.get("locals") or {}
    kind = locals_.get("kind") if locals_.get("count") else _KINDS[0]
    whole = (card.settings.get("globals") or {}).get("kind", "gem")
    reasons = {
        "describe.superglobal": card.settings.get("superglobal") is not None,
        "describe.maps.levels": bool(card.maps.levels),
        "describe.image.scaling = tensor": image.get("scaling") == "tensor",
        f"describe.globals.kind = {whole}": whole != "gem",
        f"describe.locals.kind = {kind}": kind not in _KINDS,
        f"describe.precision = {card.settings.get('precision')}": card.settings.get("precision") not in _PRECISIONS,
    }
    needed = [reason for reason, holds in reasons.items() if holds]
    if needed:
        raise RelookError(f"{', '.join(needed)}: computed by torch only")
    given = {key: dict(card.settings[key]) for key in ("image", "globals")}
    given["image"]["icc"] = card.image.icc
    if locals_:
        given["locals"] = {**locals_, "projection": None}
    return parse_config({"describe": {"name": card.name, **given}}, source="the model card").describe


def unit(values: FloatArray) -> FloatArray:
    """Rows of unit length, [..., D]."""
    lengths = np.sqrt(np.einsum("...d,...d->...", values, values))[..., None]
    return np.asarray(values / np.maximum(lengths, _TINY), np.float32)


def _all_cells(maps: Sequence[FloatArray], sizes: Sequence[tuple[int, int]], attention: Sequence[FloatArray]) -> Cells:
    """Every cell, scale by scale, row by row; its strength is its L2 norm, or the attention that is given."""
    count = len(maps[0])
    features = np.concatenate([cells.reshape(*cells.shape[:2], -1).transpose(0, 2, 1) for cells in maps], axis=1)
    places = np.concatenate([_centres(cells, size) for cells, size in zip(maps, sizes, strict=True)])
    numbers = np.repeat(np.arange(len(maps)), [cells.shape[2] * cells.shape[3] for cells in maps])
    if attention:
        weight = np.concatenate([values.reshape(count, -1) for values in attention], axis=1)
    else:
        weight = np.sqrt(np.einsum("bnc,bnc->bn", features, features))
    xy, scale = (np.broadcast_to(values, (count, *values.shape)) for values in (places, numbers))
    return Cells(features, weight, xy, scale)


def _strongest(cells: Cells, count: int) -> Cells:
    """The `count` strongest of each picture, strongest first."""
    rows = np.argsort(-cells.weight, axis=1, kind="stable")[:, :count]
    return Cells(
        np.take_along_axis(cells.features, rows[..., None], axis=1),
        np.take_along_axis(cells.weight, rows, axis=1),
        np.take_along_axis(cells.xy, rows[..., None], axis=1),
        np.take_along_axis(cells.scale, rows, axis=1),
    )


def _centres(cells: FloatArray, size: tuple[int, int]) -> FloatArray:
    """[h * w, 2] centres of cells in pixels of an input of (height, width)."""
    steps = [np.float32(whole / side) for side, whole in zip(cells.shape[2:], size, strict=True)]
    y, x = ((np.arange(side, dtype=np.float32) + 0.5) * step for side, step in zip(cells.shape[2:], steps, strict=True))
    grid_y, grid_x = np.meshgrid(y, x, indexing="ij")
    return np.stack([grid_x.ravel(), grid_y.ravel()], axis=1).astype(np.float32)


def _for_ames(weights: Mapping[str, FloatArray], features: FloatArray) -> FloatArray:
    """See `AMESProjection.apply`."""
    if _BITS in weights:
        return np.where(features @ weights[_BITS] < 0, np.float32(-1), np.float32(1))
    names: Iterable[str] = (f"remap_local.{part}" for part in ("0.weight", "0.bias", "1.weight", "1.bias"))
    matrix, bias, gain, shift = (weights[name] for name in names)
    linear = features @ matrix.T + bias
    centred = linear - linear.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + _OF_VARIANCE)
    return np.asarray(centred / spread * gain + shift, np.float32)
