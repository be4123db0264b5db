"""One pass of a describer's network over a batch: each scale, pooling, the maps of requested stages, the chosen cells.

Between preprocessing and the describer, which projects the results. Nothing here depends on what was fitted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch

from pipeline.config import DescribeConfig
from pipeline.describe.backbones import Tap
from pipeline.describe.local_descriptors import Cells, all_cells, strongest_cells
from pipeline.describe.network import DescriberNetwork
from pipeline.errors import RelookError


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


class NetworkPass:
    """Runs a network at the scales of a configuration.

    Args:
        network: backbone and heads, on its device.
        config: what to compute, with an input that the backbone can read.

    Attributes:
        scales: of the image, ascending: all at which the network runs.
        local_scales: those of them that local descriptors come from.

    Raises:
        RelookError: the configuration names a stage that the backbone does not have or cannot show.
    """

    def __init__(self, network: DescriberNetwork, config: DescribeConfig) -> None:
        self._network, self._config = network, config
        self.local_scales = tuple(sorted(set(config.locals.scales))) if config.locals.count else ()
        self._map_scales = (1.0,) if config.maps.levels else ()
        self.scales = tuple(sorted({*config.globals.scales, *self.local_scales, *self._map_scales}))
        self._taps = self._find_taps()

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
        cells: list[torch.Tensor] = []
        sizes: list[tuple[int, int]] = []
        levels = None
        for scale, images in pyramid:
            final, maps = self._maps_of(images, local=scale in self.local_scales, maps=scale in self._map_scales)
            if scale in self._config.globals.scales:
                vectors.append(network.head.pool(final).float())
            if scale in self.local_scales:
                cells.append(maps["locals"])
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
        final, maps = self._maps_of(torch.zeros(1, 3, height, width, device=device), local=True, maps=True)
        locals_ = maps["locals"]
        if network.reduce is not None and self._config.locals.count:
            locals_ = network.reduce(locals_)
        levels = network.maps(maps["maps"]) if network.maps else [final]
        pooled = network.head.pool(final)
        return {"globals": pooled.shape[1], "locals": locals_.shape[1], "maps": levels[0].shape[1]}

    def _find_taps(self) -> dict[str, Tap | None]:
        """Which stage locals and maps come from; None: the final map."""
        backbone = self._network.backbone
        taps: dict[str, Tap | None] = {}
        for name, requested, section in (
            ("locals", self._config.locals.count, self._config.locals),
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

    def _maps_of(
        self, images: torch.Tensor, *, local: bool, maps: bool
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The final map of images, and the maps that locals and feature maps come from, where they are requested."""
        wanted = {name: self._taps[name] for name, is_wanted in (("locals", local), ("maps", maps)) if is_wanted}
        taps = {name: tap for name, tap in wanted.items() if tap}
        final, tapped = self._network.backbone(images, list(taps.values()))
        return final, {**dict.fromkeys(wanted, final), **dict(zip(taps, tapped, strict=True))}

    def _choose(self, maps: Sequence[torch.Tensor], sizes: Sequence[tuple[int, int]]) -> Cells:
        """The cells of the local descriptors, of one map and its input's (height, width) per scale."""
        network, config = self._network, self._config.locals
        weights = None
        if config.kind == "attention" and network.attention is not None:
            weights = [network.attention(cells).float() for cells in maps]
        if network.reduce is not None:
            maps = [network.reduce(cells) for cells in maps]
        maps = [cells.float() for cells in maps]
        return all_cells(maps, sizes) if config.kind == "map" else strongest_cells(maps, sizes, config.count, weights)
