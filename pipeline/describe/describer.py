"""The describer of any backbone: resize, network at several scales, pooling, local selection, projections.

Called by extraction for the gallery and by search for queries. Everything that changes a descriptor is on its model
card.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from pipeline.config import DescribeConfig
from pipeline.describe.backbones import Backbone
from pipeline.describe.pooling import gem
from pipeline.describe.projections import Projection, digest, fit_pca, from_arrays, to_arrays
from pipeline.describe.selection import Cells, strongest_cells
from pipeline.errors import RelookError
from pipeline.imaging import resize, target_size
from pipeline.types import Box, Description, FloatArray, LocalDescriptors, ModelCard, Prepared

# Cells that a PCA of locals is fitted on; more change nothing and cost memory (64 MB at 1,280 channels).
_FIT_CELLS = 12_800


class BackboneDescriber:
    """Describes pictures with a backbone.

    Args:
        backbone: the network and what its weights were trained with.
        config: what to compute; what it leaves open (mean, std, multiple) the backbone decides.
        device: where the network runs.

    Raises:
        RelookError: the configuration asks for something that this backbone does not have.
    """

    def __init__(self, backbone: Backbone, config: DescribeConfig, device: torch.device) -> None:
        self._backbone = backbone.to(device).to(memory_format=torch.channels_last)
        self._config = config
        self._device = device
        self._projections: dict[str, Projection] = {}
        self._image = config.image.model_copy(
            update={
                "mean": config.image.mean or backbone.mean,
                "std": config.image.std or backbone.std,
                "multiple": config.image.multiple or backbone.multiple,
            }
        )
        self._local_scales = config.locals.scales if config.locals.count else ()
        self._scales = tuple(sorted({*config.globals.scales, *self._local_scales}))
        self._stage = None if config.locals.stage == "final" or not config.locals.count else config.locals.stage
        self._p = self._exponent()
        if self._stage is not None and not -backbone.stages <= self._stage < backbone.stages:
            raise RelookError(
                f"describe.locals.stage = {self._stage}: {backbone.architecture} has {backbone.stages} stages"
            )
        self._mean = torch.tensor(self._image.mean, device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(self._image.std, device=device).view(1, 3, 1, 1) * 255
        self._widths = self._measure_widths()

    @property
    def card(self) -> ModelCard:
        """What makes the descriptors. Raises RelookError while `to_fit` is not empty."""
        if self.to_fit:
            raise RelookError(f"the projections of {', '.join(self.to_fit)} have not been fitted")
        config = self._config
        return ModelCard(
            name=config.name,
            architecture=self._backbone.architecture,
            weights=self._backbone.weights,
            settings={
                "image": self._image.model_dump(mode="json", exclude={"max_pixels", "max_bytes"}),
                "globals": {**config.globals.model_dump(mode="json"), "p": self._p},
                "locals": config.locals.model_dump(mode="json"),
            },
            fitted=digest(self._projections),
            dimension=config.globals.whiten or self._widths[0],
            local_dimension=self._local_dimension,
        )

    @property
    def to_fit(self) -> tuple[str, ...]:
        """Which projections ("globals", "locals") are asked for and not there yet."""
        wanted = []
        if self._config.globals.whiten:
            wanted.append("globals")
        if self._config.locals.count and self._widths[1] > self._config.locals.dimension:
            wanted.append("locals")
        return tuple(name for name in wanted if name not in self._projections)

    def fitted(self) -> dict[str, FloatArray]:
        """The fitted projections as named arrays; `use_fitted` is the inverse."""
        return to_arrays(self._projections)

    def use_fitted(self, arrays: Mapping[str, FloatArray]) -> None:
        """Take projections that were fitted before. Raises RelookError when they are of other dimensions."""
        projections = from_arrays(arrays)
        expected = {
            "globals": (self._widths[0], self._config.globals.whiten),
            "locals": (self._widths[1], self._config.locals.dimension),
        }
        for name in self.to_fit:
            found = projections[name].matrix.shape if name in projections else None
            if found != expected[name]:
                raise RelookError(f"the fitted projection of {name} is {found}, expected {expected[name]}")
            self._projections[name] = projections[name]

    def fit(self, batches: Iterable[Sequence[Prepared]]) -> None:
        """Fit the projections of `to_fit` on these pictures. Raises RelookError when they are too few."""
        vectors: list[FloatArray] = []
        cells: list[FloatArray] = []
        step = max(1, self._config.locals.count * self._config.fit_images // _FIT_CELLS)
        for batch in batches:
            pooled, chosen = self._run(batch)
            vectors.append(pooled.cpu().numpy())
            if chosen is not None:
                features = functional.normalize(chosen.features[:, ::step], dim=-1).flatten(0, 1)
                cells.append(features.cpu().numpy())
        if not vectors:
            raise RelookError("no picture could be read to fit the projections on")
        for name in self.to_fit:
            if name == "globals":
                size = self._config.globals.whiten or 0
                projection = fit_pca(np.concatenate(vectors), size, whiten=True, what="describe.globals.whiten")
            else:
                size = self._config.locals.dimension
                projection = fit_pca(np.concatenate(cells), size, whiten=False, what="describe.locals.dimension")
            self._projections[name] = projection

    def prepare(self, image: npt.NDArray[np.uint8], bbox: Box | None = None) -> Prepared:
        """See `Describer.prepare`. Raises RelookError when the `bbox` lies outside the picture."""
        height, width = image.shape[:2]
        left, top = 0, 0
        if bbox is not None:
            left, top, right, bottom = _clip(bbox, width, height)
            image = image[top:bottom, left:right]
        settings = self._image
        pixels, to_original = [], []
        for scale in self._scales:
            size = target_size(
                image.shape[1],
                image.shape[0],
                rule=settings.resize,
                size=settings.size,
                multiple=settings.multiple or 1,
                scale=scale,
            )
            resized = resize(image, size, settings.interpolation)
            sx, sy = image.shape[1] / size[0], image.shape[0] / size[1]
            dx, dy = float(left), float(top)
            if settings.crop:
                side = round(settings.crop * scale)
                x, y = max(0, (size[0] - side) // 2), max(0, (size[1] - side) // 2)
                resized = resized[y : y + side, x : x + side]
                dx, dy = dx + x * sx, dy + y * sy
            pixels.append(np.ascontiguousarray(resized.transpose(2, 0, 1)))
            to_original.append((sx, sy, dx, dy))
        return Prepared(pixels, to_original, self._scales, width, height)

    def describe(self, batch: Sequence[Prepared]) -> list[Description]:
        """See `Describer.describe`."""
        pooled, cells = self._run(batch)
        if "globals" in self._projections:
            pooled = self._projections["globals"].apply(pooled)
        vectors = pooled.cpu().numpy()
        locals_ = [None] * len(batch) if cells is None else self._locals(cells, batch)
        return [Description(vector, local) for vector, local in zip(vectors, locals_, strict=True)]

    @property
    def _local_dimension(self) -> int:
        if not self._config.locals.count:
            return 0
        return min(self._widths[1], self._config.locals.dimension)

    @torch.inference_mode()
    def _run(self, batch: Sequence[Prepared]) -> tuple[torch.Tensor, Cells | None]:
        """The pooled descriptors [B, D] of unit length, before whitening, and the chosen cells, before their PCA."""
        pooled: list[torch.Tensor] = []
        maps: list[torch.Tensor] = []
        sizes: list[tuple[int, int]] = []
        for number, scale in enumerate(self._scales):
            stacked = torch.from_numpy(np.stack([item.pixels[number] for item in batch])).to(self._device)
            images = ((stacked - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
            final, stage = self._backbone(images, self._stage)
            if scale in self._config.globals.scales:
                pooled.append(functional.normalize(gem(final, self._p), dim=1))
            if scale in self._local_scales:
                maps.append(final if stage is None else stage)
                sizes.append((images.shape[-2], images.shape[-1]))
        vectors = functional.normalize(torch.stack(pooled).mean(dim=0), dim=1)
        if not maps:
            return vectors, None
        return vectors, strongest_cells(maps, sizes, self._config.locals.count)

    def _locals(self, cells: Cells, batch: Sequence[Prepared]) -> list[LocalDescriptors]:
        features = functional.normalize(cells.features, dim=-1)
        if "locals" in self._projections:
            features = self._projections["locals"].apply(features)
        used = [number for number, scale in enumerate(self._scales) if scale in self._local_scales]
        descriptors, weight = features.cpu().numpy(), cells.weight.cpu().numpy()
        xy, numbers = cells.xy.cpu().numpy(), np.array(used)[cells.scale.cpu().numpy()]
        factors = np.array(self._scales, dtype=np.float32)
        result = []
        for row, item in enumerate(batch):
            back = np.array(item.to_original, dtype=np.float32)[numbers[row]]
            original = xy[row] * back[:, :2] + back[:, 2:]
            result.append(LocalDescriptors(descriptors[row], original, factors[numbers[row]], weight[row]))
        return result

    def _exponent(self) -> float:
        p = self._config.globals.p
        if p != "learned":
            return p
        if self._backbone.learned_p is None:
            raise RelookError("describe.globals.p = learned: the checkpoint holds no exponent (no key pool.p)")
        return self._backbone.learned_p

    @torch.inference_mode()
    def _measure_widths(self) -> tuple[int, int]:
        """Channels of the final map and of the map that locals come from."""
        side = self._image.multiple or 32
        final, stage = self._backbone(torch.zeros(1, 3, side * 2, side * 2, device=self._device), self._stage)
        return final.shape[1], (final if stage is None else stage).shape[1]


def _clip(bbox: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Whole pixels of a box inside the picture; corners are truncated, as the Revisited Oxford protocol does."""
    left, top = max(0, int(bbox[0])), max(0, int(bbox[1]))
    right, bottom = min(width, int(bbox[2])), min(height, int(bbox[3]))
    if right <= left or bottom <= top:
        raise RelookError(f"the box {bbox} has no pixel of a picture of {width} x {height}")
    return left, top, right, bottom


def settings_of(card: ModelCard) -> dict[str, Any]:
    """The options of `load_describer` that make a describer like the one on the card."""
    return {**card.settings, "weights": "random" if card.random else "pretrained"}
