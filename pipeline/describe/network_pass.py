"""One pass of a describer's network over a batch: each scale, pooling, the maps of requested stages, the chosen cells.

Between preprocessing and the describer, which projects the results. Nothing here depends on what was fitted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from pipeline.config import DescribeConfig
from pipeline.describe.backbones import Tap
from pipeline.describe.detector import Detector
from pipeline.describe.local_descriptors import Cells, all_cells, strongest_cells
from pipeline.describe.network import DescriberNetwork
from pipeline.describe.projections import Samples
from pipeline.errors import RelookError

# Where a detector is needed and there is none.
WITHOUT_DETECTOR = (
    "describe.locals.kind = detector: no detector was given; add --set describe.locals.detector=FILE, a checkpoint of "
    "AMES's detector"
)


class _Maps(NamedTuple):
    """The final map, those of locals and feature maps by name, and a transformer's class token, if it is needed."""

    final: torch.Tensor
    maps: dict[str, torch.Tensor]
    class_token: torch.Tensor | None


class _Weighed(NamedTuple):
    """One map's cells: descriptors [B, C, h, w] and strengths [B, h, w]; None: their norms."""

    features: torch.Tensor
    weights: torch.Tensor | None


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

    def add_to(self, samples: Samples) -> None:
        """Have projections fitted on it."""
        chosen = flat = None
        if self.cells is not None:
            cells = self.cells.features
            cells = cells[:, :: samples.cell_step(cells.shape[1])].flatten(0, 1)
            chosen = (functional.normalize(cells, dim=-1) if samples.unit else cells).cpu().numpy()
        if self.maps:
            level = max(self.maps, key=lambda level: level.shape[-1]).flatten(2).transpose(1, 2)
            flat = level[:, :: samples.map_step(level.shape[1])].flatten(0, 1).cpu().numpy()
        samples.add(self.vectors.cpu().numpy(), chosen, flat)

    @property
    def bytes(self) -> int:
        """The memory that the tensors take."""
        tensors = [self.vectors, *(self.maps or ())]
        if self.cells is not None:
            tensors += [getattr(self.cells, field.name) for field in fields(self.cells)]
        return sum(tensor.nbytes for tensor in tensors)


class NetworkPass:
    """Runs a network at the scales of a configuration.

    Args:
        network: backbone and heads, on its device.
        config: what to compute, with an input that the backbone can read.

    Attributes:
        scales: of the image, ascending: all at which the network runs.
        local_scales: those of them that local descriptors come from.
        detector: chooses the cells where the configuration says so; None: none was given yet, or none is needed.

    Raises:
        RelookError: the configuration names a stage that the backbone does not have or cannot show, or asks for a
            global descriptor that the network does not give.
    """

    def __init__(self, network: DescriberNetwork, config: DescribeConfig) -> None:
        self._network, self._config = network, config
        self.detector: Detector | None = None
        self._global = config.globals.kind
        self._averages = self._global in ("locals", "weighted_map")
        if self._global != "gem" and (network.head.fc is not None or config.superglobal is not None):
            raise RelookError(f"describe.globals.kind = {self._global}: {config.name} pools its last map; use gem")
        self.local_scales = tuple(sorted(set(config.locals.scales))) if config.locals.count else ()
        self._map_scales = (1.0,) if config.maps.levels else ()
        self.scales = tuple(sorted({*config.globals.scales, *self.local_scales, *self._map_scales}))
        self._taps = self._find_taps()
        self._reads_token = self._global == "class_token" or (
            config.locals.kind == "class_token" and (bool(self.local_scales) or self._averages)
        )
        if config.locals.kind == "class_token" and self._taps["locals"] is not None:
            raise RelookError(
                f"describe.locals.stage = {config.locals.stage}: kind = class_token compares the last map with it; use "
                "final"
            )
        tap = self._taps["locals"]
        stride = network.backbone.reductions[tap.stage if tap else -1]
        self._stride = stride if config.locals.places == "corner" else None

    def run(
        self, pyramid: Iterable[tuple[float, torch.Tensor]], to_original: list[npt.NDArray[np.float32]]
    ) -> NetworkOutput:
        """The output for B pictures.

        Args:
            pyramid: each of `scales` and its images [B, 3, h, w] as the network reads them.
            to_original: see `NetworkOutput`.
        """
        network = self._network
        vectors: list[torch.Tensor] = []
        cells: list[_Weighed] = []
        sizes: list[tuple[int, int]] = []
        levels = None
        for scale, images in pyramid:
            has_global, has_local = scale in self._config.globals.scales, scale in self.local_scales
            pooled = has_global and self._averages
            found = self._maps_of(images, local=has_local or pooled, maps=scale in self._map_scales)
            maps = found.maps
            weighed = self._weighed(maps["locals"], found.class_token) if has_local or pooled else None
            if has_global:
                vectors.append(self._pooled(found, weighed).float())
            if has_local and weighed is not None:
                cells.append(weighed)
                sizes.append((images.shape[-2], images.shape[-1]))
            if network.maps is not None and scale in self._map_scales:
                levels = [level.float() for level in network.maps(maps["maps"])]
        chosen = self._choose(cells, sizes) if cells else None
        return NetworkOutput(network.head.combine(vectors), chosen, levels, to_original)

    @property
    def taps(self) -> list[Tap]:
        """The stages whose maps are read beside the final one."""
        return sorted({tap for tap in self._taps.values() if tap})

    @property
    def local_tap(self) -> Tap | None:
        """The stage that local descriptors come from; None: the final map, or there are none."""
        return self._taps["locals"]

    @property
    def weighs_by_attention(self) -> bool:
        """Whether the network says how much each cell matters."""
        attends = self._config.locals.kind == "attention" and self._network.attention is not None
        return bool(self.local_scales) and attends

    @torch.inference_mode()
    def measure_widths(self, device: torch.device) -> dict[str, int]:
        """Channels of the global descriptor, of the map that locals come from, and of the maps."""
        network = self._network
        height, width = network.backbone.probed_size or (64, 64)
        found = self._maps_of(torch.zeros(1, 3, height, width, device=device), local=True, maps=True)
        locals_ = raw = found.maps["locals"]
        if network.reduce is not None and self._config.locals.count and self._config.locals.kind != "detector":
            locals_ = network.reduce(locals_)
        levels = network.maps(found.maps["maps"]) if network.maps else [found.final]
        averaged = {"locals": locals_, "weighted_map": raw}.get(self._global)
        pooled = self._pooled(found, None) if averaged is None else averaged.mean(dim=(2, 3))
        vector = network.head.combine([pooled.float()])
        return {"globals": vector.shape[1], "locals": locals_.shape[1], "maps": levels[0].shape[1]}

    def _find_taps(self) -> dict[str, Tap | None]:
        """Which stage locals and maps come from; None: the final map."""
        backbone = self._network.backbone
        taps: dict[str, Tap | None] = {}
        for name, requested, section in (
            ("locals", self._config.locals.count or self._averages, self._config.locals),
            ("maps", len(self._config.maps.levels), self._config.maps),
        ):
            taps[name] = Tap(section.stage, section.pre_relu) if requested and section.stage != "final" else None
            if taps[name] and not -backbone.stages <= int(section.stage) < backbone.stages:
                raise RelookError(
                    f"describe.{name}.stage = {section.stage}: {backbone.architecture} has {backbone.stages} stages"
                )
            if requested and section.pre_relu and not backbone.has_pre_relu(taps[name]):
                raise RelookError(
                    f"describe.{name}.pre_relu: {backbone.architecture} gives no map before a ReLU at stage "
                    f"{section.stage}"
                )
        return taps

    def _maps_of(self, images: torch.Tensor, *, local: bool, maps: bool) -> _Maps:
        """The final map of images, and the maps that locals and feature maps come from, where they are requested."""
        wanted = {name: self._taps[name] for name, is_wanted in (("locals", local), ("maps", maps)) if is_wanted}
        taps = {name: tap for name, tap in wanted.items() if tap}
        backbone, token = self._network.backbone, None
        if self._reads_token:
            final, tapped, token = backbone.with_class_token(images, list(taps.values()))
        else:
            final, tapped = backbone(images, list(taps.values()))
        return _Maps(final, {**dict.fromkeys(wanted, final), **dict(zip(taps, tapped, strict=True))}, token)

    def _weighed(self, cells: torch.Tensor, class_token: torch.Tensor | None) -> _Weighed:
        """The descriptors of a map's cells, and how much each of them counts."""
        network, config = self._network, self._config.locals
        if config.kind == "detector":
            if self.detector is None:
                raise RelookError(WITHOUT_DETECTOR)
            features, weights = self.detector(cells, config.descriptor)
            return _Weighed(features.float(), weights.float())
        if config.kind == "class_token" and class_token is not None:
            features = functional.normalize(cells.float(), dim=1)
            token = functional.normalize(class_token.float(), dim=1)
            return _Weighed(features, torch.einsum("bchw,bc->bhw", features, token))
        attention = network.attention if config.kind == "attention" else None
        return _Weighed(
            (cells if network.reduce is None else network.reduce(cells)).float(),
            None if attention is None else attention(cells).float(),
        )

    def _pooled(self, found: _Maps, weighed: _Weighed | None) -> torch.Tensor:
        """The global descriptors [B, D] of one scale, not of unit length."""
        if self._global == "class_token" and found.class_token is not None:
            return found.class_token
        if self._averages and weighed is not None:
            features, weights = weighed
            weights = features.norm(dim=1) if weights is None else weights
            features = found.maps["locals"].float() if self._global == "weighted_map" else features
            return (weights.unsqueeze(1) * features).mean(dim=(2, 3))
        return self._network.head.pool(found.final)

    def _choose(self, weighed: Sequence[_Weighed], sizes: Sequence[tuple[int, int]]) -> Cells:
        """The cells of the local descriptors, of one map and its input's (height, width) per scale."""
        config = self._config.locals
        maps = [cells.features for cells in weighed]
        if config.kind == "map":
            return all_cells(maps, sizes, self._stride)
        weights = [cells.weights for cells in weighed if cells.weights is not None]
        return strongest_cells(maps, sizes, config.count, weights or None, self._stride)
