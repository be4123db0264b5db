"""The describer: resize, network at several scales, pooling, local selection, projections.

Called by extraction for the gallery and by search for queries. Everything that changes a descriptor is on its model
card.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from pipeline.checkpoints import hash_weights
from pipeline.config import DescribeConfig
from pipeline.describe.ames_projection import AMESProjection
from pipeline.describe.backbones import Tap
from pipeline.describe.fitting import Fitted, Samples
from pipeline.describe.input_size import scaled_size, with_input_of
from pipeline.describe.network import DescriberNetwork
from pipeline.describe.preprocessing import prepare
from pipeline.describe.presets import PRESETS
from pipeline.describe.selection import Cells, all_cells, strongest_cells
from pipeline.errors import RelookError
from pipeline.imaging import ColourRule
from pipeline.types import Box, Description, FeatureMaps, FloatArray, LocalDescriptors, ModelCard, Prepared


@dataclass(frozen=True)
class NetworkOutput:
    """What the network computed for B pictures, before the projections.

    Attributes:
        vectors: [B, D] float32 of unit length.
        cells: the chosen cells; None without local descriptors.
        maps: [B, C, h, w] float32 per level; None without feature maps.
        to_original: per picture [S, 4] float32, from the pixels that each scale of the cells read to the original's.
    """

    vectors: torch.Tensor
    cells: Cells | None
    maps: list[torch.Tensor] | None
    to_original: list[npt.NDArray[np.float32]]

    def on_cpu(self) -> NetworkOutput:
        """The same values in the memory of the CPU."""
        return self.on(torch.device("cpu"))

    def on(self, device: torch.device) -> NetworkOutput:
        """The same values on a device."""
        cells = self.cells and Cells(*(getattr(self.cells, field.name).to(device) for field in fields(self.cells)))
        maps = self.maps and [level.to(device) for level in self.maps]
        return NetworkOutput(self.vectors.to(device), cells, maps, self.to_original)

    @property
    def bytes(self) -> int:
        """The memory that the tensors take."""
        tensors = [self.vectors, *(self.maps or ())]
        if self.cells is not None:
            tensors += [getattr(self.cells, field.name) for field in fields(self.cells)]
        return sum(tensor.nbytes for tensor in tensors)


class NetworkDescriber:
    """Describes pictures with a network.

    Args:
        network: backbone and heads, with their weights.
        config: what to compute; what it leaves open (mean, std, multiple) the backbone decides.
        device: where the network runs.

    Raises:
        RelookError: the configuration asks for something that this network does not have.
    """

    def __init__(self, network: DescriberNetwork, config: DescribeConfig, device: torch.device) -> None:
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self._device = device
        if device.type == "cuda" and config.precision == "float32":
            torch.backends.cudnn.allow_tf32 = False  # by default convolutions round to ten bits
        self._config = config = with_input_of(network.backbone, config)
        self._image = config.image
        self._patch = network.backbone.patch
        self._local_scales = config.locals.scales if config.locals.count else ()
        self._map_scales = (1.0,) if config.maps.levels else ()
        self._scales = tuple(sorted({*config.globals.scales, *self._local_scales, *self._map_scales}))
        self._taps = self._find_taps()
        self._mean = torch.tensor(self._image.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(self._image.std, device=device).view(1, 3, 1, 1)
        self._widths = self._measure_widths()
        self._fitted = Fitted(config, self._widths)
        self._ames: AMESProjection | None = None
        if config.locals.projection:
            self._use_ames(AMESProjection.read(config.locals.projection))

    @property
    def card(self) -> ModelCard:
        """What makes the descriptors. Raises RelookError while `to_fit` is not empty."""
        if self.to_fit:
            raise RelookError(f"the projections of {', '.join(self.to_fit)} have not been fitted")
        config = self._config
        return ModelCard(
            name=config.name,
            architecture=self.network.backbone.architecture,
            weights=self.network.backbone.weights,
            settings={
                "precision": config.precision,
                "image": self._image_card(),
                "globals": {**config.globals.model_dump(mode="json"), "p": self._exponent()},
                "superglobal": config.superglobal.model_dump(mode="json") if config.superglobal else None,
                "locals": {
                    **config.locals.model_dump(mode="json"),
                    "projection": self._ames.card if self._ames else None,
                },
                "maps": {**config.maps.model_dump(mode="json"), **self._maps_card()},
            },
            fitted=self._fitted.digest,
            dimension=self._fitted.width("globals"),
            local_dimension=self._local_dimension,
        )

    @property
    def icc(self) -> ColourRule:
        """What the pictures that `prepare` takes are read with: see `pipeline.imaging.read_image`."""
        return self._image.icc

    @property
    def to_fit(self) -> tuple[str, ...]:
        """Which projections ("globals", "locals", "maps") are needed and not fitted yet."""
        return self._fitted.missing

    def fitted(self) -> dict[str, FloatArray]:
        """The projections that queries need as well, as named arrays; `use_fitted` is the inverse."""
        return self._fitted.arrays() | (self._ames.arrays() if self._ames else {})

    def use_fitted(self, arrays: Mapping[str, FloatArray]) -> None:
        """Take projections that were fitted before. Raises RelookError when they are of other dimensions."""
        ames = AMESProjection.from_arrays(arrays)
        if self._ames is None and ames is not None:
            self._use_ames(ames)
        self._fitted.use(arrays)

    def fit(self, batches: Iterable[Sequence[Prepared]]) -> None:
        """Fit the projections of `to_fit` on these pictures. Raises RelookError when they are too few."""
        self.fit_on(map(self.observe, batches))

    def fit_on(self, outputs: Iterable[NetworkOutput]) -> None:
        """Fit the projections of `to_fit` on what `observe` returned. Raises RelookError when it is too little."""
        samples = Samples(self._config)
        for output in outputs:
            samples.add(output.vectors, output.cells.features if output.cells else None, output.maps)
        self._fitted.fit(samples)

    def prepare(self, image: npt.NDArray[np.uint8], bbox: Box | None = None) -> Prepared:
        """See `Describer.prepare`. Raises RelookError when the `bbox` lies outside the picture."""
        return prepare(image, bbox, self._image, self._scales, self._patch)

    def describe(self, batch: Sequence[Prepared]) -> list[Description]:
        """See `Describer.describe`."""
        return self.describe_output(self.observe(batch))

    @torch.inference_mode()
    def observe(self, batch: Sequence[Prepared]) -> NetworkOutput:
        """Run the network on pictures of one `shape`; `fit_on` and `describe_output` take the result."""
        with self._autocast():
            return self._run_network(batch)

    def describe_output(self, output: NetworkOutput) -> list[Description]:
        """The descriptions of the pictures that `observe` was given, in order."""
        output = output.on(self._device)
        count = len(output.vectors)
        vectors = self._fitted.apply("globals", output.vectors).cpu().numpy()
        locals_ = [None] * count if output.cells is None else self._locals(output.cells, output.to_original)
        maps = [None] * count if output.maps is None else self._maps(output.maps)
        return [Description(*parts) for parts in zip(vectors, locals_, maps, strict=True)]

    def normalised(self, batch: Sequence[Prepared], number: int = 0) -> torch.Tensor:
        """What the network reads of the scale `number`: [B, 3, h, w] float32, channels in its order."""
        return self.as_read(torch.from_numpy(np.stack([item.pixels[number] for item in batch])))

    def as_read(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels [B, 3, h, w] uint8 RGB as the network reads them: normalised, channels in its order."""
        stacked = pixels.to(self._device)
        # In this order, as the papers' code does: float32 rounds, and descriptors are compared to the last digits.
        images = (stacked / 255 - self._mean) / self._std
        if self._image.channels == "bgr":
            images = images.flip(1)
        return images.contiguous(memory_format=torch.channels_last)

    @property
    def reads(self) -> str:
        """What `as_read` does, in words: equal for describers that read pixels in the same way."""
        return f"{self._image.channels} - {self._image.mean} / {self._image.std}"

    def pyramid(self, batch: Sequence[Prepared]) -> Iterator[tuple[float, torch.Tensor]]:
        """Each scale and its images [B, 3, h, w] as the network reads them."""
        if self._image.scaling == "picture":
            for number, scale in enumerate(self._scales):
                yield scale, self.normalised(batch, number)
            return
        images = self.normalised(batch)
        height, width = images.shape[-2:]
        for scale in self._scales:
            size = scaled_size(height, width, scale, self._patch)
            if scale == 1:
                yield scale, images
            else:
                yield (
                    scale,
                    functional.interpolate(
                        images, size, mode="bilinear", align_corners=False, antialias=self._image.antialias
                    ),
                )

    def _use_ames(self, projection: AMESProjection) -> None:
        """Project locals for AMES, instead of by a fitted PCA. Raises RelookError when they are not as wide."""
        if projection.width != self._widths["locals"]:
            raise RelookError(
                f"describe.locals.projection: the AMES checkpoint takes descriptors of {projection.width} values, "
                f"{self._config.name} gives {self._widths['locals']}"
            )
        self._ames = projection
        self._fitted.do_without("locals")

    def _exponent(self) -> float | str:
        """GeM's on the card: what a published model's file holds goes with its weights."""
        p = self._config.globals.p
        return p if p != "learned" or self._config.name in PRESETS else float(self.network.head.p)

    def _maps_card(self) -> dict[str, Any]:
        """What a reranker of maps has to know: their channels, and the weights that projected them."""
        if self.network.maps is None:
            return {"channels": 0, "projected_by": None}
        convolutions = self.network.maps.conv2ds
        digest = hash_weights(convolutions.state_dict()) if convolutions else None
        return {"channels": self._fitted.width("maps"), "projected_by": digest}

    @property
    def _local_dimension(self) -> int:
        if not self._config.locals.count:
            return 0
        if self._ames:
            return self._ames.dimension
        return self._fitted.width("locals")

    def _find_taps(self) -> dict[str, Tap | None]:
        """Which stage locals and maps come from; None: the final map."""
        backbone = self.network.backbone
        taps: dict[str, Tap | None] = {}
        for name, count, section in (
            ("locals", self._config.locals.count, self._config.locals),
            ("maps", len(self._config.maps.levels), self._config.maps),
        ):
            taps[name] = Tap(section.stage, section.pre_relu) if count and section.stage != "final" else None
            if taps[name] and not -backbone.stages <= int(section.stage) < backbone.stages:
                raise RelookError(
                    f"describe.{name}.stage = {section.stage}: {backbone.architecture} has {backbone.stages} stages"
                )
            if count and section.pre_relu and not backbone.has_pre_relu(taps[name]):
                raise RelookError(
                    f"describe.{name}.pre_relu: {backbone.architecture} gives no map before a ReLU at stage "
                    f"{section.stage}"
                )
        return taps

    def _run_network(self, batch: Sequence[Prepared]) -> NetworkOutput:
        network, config = self.network, self._config
        vectors: list[torch.Tensor] = []
        cells: list[torch.Tensor] = []
        sizes: list[tuple[int, int]] = []
        levels = None
        for scale, images in self.pyramid(batch):
            wanted = {
                "locals": self._taps["locals"] if scale in self._local_scales else None,
                "maps": self._taps["maps"] if scale in self._map_scales else None,
            }
            taps = {name: tap for name, tap in wanted.items() if tap}
            final, tapped = network.backbone(images, list(taps.values()))
            maps = dict(zip(taps, tapped, strict=True))
            if scale in config.globals.scales:
                vectors.append(network.head.pool(final).float())
            if scale in self._local_scales:
                cells.append(maps.get("locals", final))
                sizes.append((images.shape[-2], images.shape[-1]))
            if network.maps is not None and scale in self._map_scales:
                levels = [level.float() for level in network.maps(maps.get("maps", final))]
        chosen = self._choose(cells, sizes) if cells else None
        places = [self._to_original(item) for item in batch] if cells else []
        return NetworkOutput(network.head.combine(vectors), chosen, levels, places)

    def _choose(self, maps: Sequence[torch.Tensor], sizes: Sequence[tuple[int, int]]) -> Cells:
        network, config = self.network, self._config.locals
        weights = None
        if config.kind == "attention" and network.attention is not None:
            weights = [network.attention(cells).float() for cells in maps]
        if network.reduce is not None:
            maps = [network.reduce(cells) for cells in maps]
        maps = [cells.float() for cells in maps]
        return all_cells(maps, sizes) if config.kind == "map" else strongest_cells(maps, sizes, config.count, weights)

    def _locals(self, cells: Cells, places: Sequence[npt.NDArray[np.float32]]) -> list[LocalDescriptors]:
        unit = self._config.locals.kind != "map"  # a cell's length is part of a map
        features = functional.normalize(cells.features, dim=-1) if unit else cells.features
        features = self._ames.apply(features) if self._ames else self._fitted.apply("locals", features, unit=unit)
        descriptors, weight = features.cpu().numpy(), cells.weight.cpu().numpy()
        xy, numbers = cells.xy.cpu().numpy(), cells.scale.cpu().numpy()
        scales = np.array(sorted(self._local_scales), dtype=np.float32)
        result = []
        for row, place in enumerate(places):
            kept = weight[row] >= self._config.locals.threshold
            back = place[numbers[row]]
            original = xy[row] * back[:, :2] + back[:, 2:]
            seen = 1 / scales[numbers[row]]
            result.append(LocalDescriptors(descriptors[row][kept], original[kept], seen[kept], weight[row][kept]))
        return result

    def _to_original(self, item: Prepared) -> npt.NDArray[np.float32]:
        """Per scale of the locals, (sx, sy, dx, dy) from the network's pixels to the original's."""
        ways = []
        for number, scale in enumerate(self._scales):
            if scale not in self._local_scales:
                continue
            if self._image.scaling == "picture":
                ways.append(item.to_original[number])
                continue
            sx, sy, dx, dy = item.to_original[0]
            height, width = item.pixels[0].shape[1:]
            new_height, new_width = scaled_size(height, width, scale, self._patch)
            ways.append((sx * width / new_width, sy * height / new_height, dx, dy))
        return np.array(ways, dtype=np.float32)

    def _maps(self, levels: list[torch.Tensor]) -> list[FeatureMaps]:
        """Projected and brought to float32 arrays, per picture."""
        channels_last = [self._fitted.apply("maps", level.permute(0, 2, 3, 1), unit=False) for level in levels]
        arrays = [level.permute(0, 3, 1, 2).contiguous().cpu().numpy() for level in channels_last]
        return [tuple(array[row] for array in arrays) for row in range(len(arrays[0]))]

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._config.precision == "float32":
            return nullcontext()
        return torch.autocast(self._device.type, getattr(torch, self._config.precision))

    def _image_card(self) -> dict[str, Any]:
        """The settings that change a descriptor; `icc` only where profiles are applied, as on cards from before."""
        left_out = {"max_pixels", "max_bytes"} | ({"icc"} if self.icc == "ignore" else set())
        return self._image.model_dump(mode="json", exclude=left_out)

    @torch.inference_mode()
    def _measure_widths(self) -> dict[str, int]:
        """Channels of the global descriptor, of the map that locals come from, and of the maps."""
        backbone = self.network.backbone
        height, width = backbone.probed_size or (64, 64)
        taps = {name: tap for name, tap in self._taps.items() if tap}
        images = torch.zeros(1, 3, height, width, device=self._device)
        final, tapped = self.network.backbone(images, list(taps.values()))
        maps = dict(zip(taps, tapped, strict=True))
        locals_ = maps.get("locals", final)
        if self.network.reduce is not None and self._config.locals.count:
            locals_ = self.network.reduce(locals_)
        levels = self.network.maps(maps.get("maps", final)) if self.network.maps else [final]
        pooled = self.network.head.pool(final)
        return {"globals": pooled.shape[1], "locals": locals_.shape[1], "maps": levels[0].shape[1]}


def icc_of(card: ModelCard) -> ColourRule:
    """How the pictures of a card's describer are read. Cards from before colour profiles were applied do not say it."""
    return "srgb" if (card.settings.get("image") or {}).get("icc") == "srgb" else "ignore"


def settings_of(card: ModelCard) -> dict[str, Any]:
    """The options of `load_describer` that make a describer like the one on the card.

    A projection for AMES is no option: its weights are among the index's fitted arrays. What the card says of maps for
    rerankers follows from the weights.
    """
    maps = {key: value for key, value in card.settings["maps"].items() if key not in ("channels", "projected_by")}
    return {
        **card.settings,
        "weights": "random" if card.random else "pretrained",
        "image": {**card.settings["image"], "icc": icc_of(card)},
        "locals": {**card.settings["locals"], "projection": None},
        "maps": maps,
    }
