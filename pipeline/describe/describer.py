"""The describer: pictures to what the network reads, a pass of the network, projections; and the model card.

Called by extraction for the gallery and by search for queries. Everything that changes a descriptor is on its model
card.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from pipeline.checkpoints import hash_weights
from pipeline.config import DescribeConfig
from pipeline.describe.ames_projection import AMESProjection
from pipeline.describe.backbones import Backbone
from pipeline.describe.card import card_settings
from pipeline.describe.detector import Detector
from pipeline.describe.export import export_network
from pipeline.describe.exported import ADAPTED
from pipeline.describe.local_descriptors import Cells, to_local_descriptors
from pipeline.describe.network import DescriberNetwork
from pipeline.describe.network_input import NetworkInput
from pipeline.describe.network_pass import WITHOUT_DETECTOR, NetworkOutput, NetworkPass
from pipeline.describe.preprocessing import (
    prepare,
    prepare_reduced,
    smallest_for,
    ways_to_original,
    with_input_of,
)
from pipeline.describe.presets import PRESETS
from pipeline.describe.projections import Fitted, Samples
from pipeline.describe.runtimes.compiled_backbone import CompiledBackbone
from pipeline.describe.runtimes.export import ExportedNetwork
from pipeline.describe.runtimes.registry import check_runtime, open_session
from pipeline.errors import RelookError
from pipeline.imaging import ColourRule, Smallest
from pipeline.types import Box, Description, FeatureMaps, FloatArray, LocalDescriptors, ModelCard, Prepared

logger = logging.getLogger("relook")


class NetworkDescriber:
    """Describes pictures with a network.

    Args:
        network: backbone and heads, with their weights.
        config: what to compute; what it leaves open (mean, std, multiple) the backbone decides.
        device: where the network runs.

    Attributes:
        network: the same.
        input: what the network reads of pictures.

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
        self._pass = NetworkPass(network, config)
        self.input = NetworkInput(network, self._image, self._pass.scales, device)
        self._widths = self._pass.measure_widths(device)
        self._fitted = Fitted(config, self._widths)
        self._ames: AMESProjection | None = None
        self._runtime: str | None = None  # one that is not opened yet
        self._opening = threading.Lock()
        self._exported: ExportedNetwork | None = None
        if config.locals.projection:
            self._use_ames(AMESProjection.read(config.locals.projection))
        if config.locals.kind == "detector" and (detector := _detector_of(config, self._widths["locals"])):
            self._use_detector(detector)

    @property
    def card(self) -> ModelCard:
        """What makes the descriptors. Raises RelookError while `to_fit` is not empty, or a detector is missing."""
        self._fitted.check()
        config = self._config
        if config.locals.kind == "detector" and self.detector is None:
            raise RelookError(WITHOUT_DETECTOR)
        return ModelCard(
            name=config.name,
            architecture=self.network.backbone.architecture,
            weights=self.network.backbone.weights,
            settings=card_settings(
                config,
                p=self._exponent(),
                maps=self._maps_card(),
                projection=self._ames.card if self._ames else None,
                detector=self.detector.card if self.detector else None,
            ),
            fitted=self._fitted.digest,
            dimension=self._fitted.width("globals"),
            local_dimension=self._local_dimension,
        )

    @property
    def icc(self) -> ColourRule:
        """What the pictures that `prepare` takes are read with: see `pipeline.imaging.read_image`."""
        return self._image.icc

    @property
    def detector(self) -> Detector | None:
        """What chooses the local descriptors; None: their norms or an attention do, or it was not given yet."""
        return self._pass.detector

    @property
    def network_pass(self) -> NetworkPass:
        """The passes of the network over batches."""
        return self._pass

    def use_runtime(self, name: str) -> None:
        """Have a compiled runtime of `runtimes.registry` run the backbone, from the next pass on.

        Where the network cannot be exported, or is something else when it is, torch goes on, and a warning says so.

        Raises:
            UsageError: no such runtime.
            RelookError: it is not installed, or it does not compute in this precision or on this device.
        """
        check_runtime(name, self._config.precision)
        if self._device.type != "cpu":
            raise RelookError(
                f"describe.runtime = {name}: runs with device = cpu only, not {self._device.type}; choose "
                "describe.runtime = torch"
            )
        self._runtime = name

    def export(self) -> ExportedNetwork:
        """The network as a graph, made once. Raises RelookError where torch cannot export it."""
        if self._exported is None:
            with torch.inference_mode(False):
                self._exported = export_network(self.network, self._pass, self._image.multiple or 1)
        return self._exported

    @property
    def to_fit(self) -> tuple[str, ...]:
        """Which projections ("globals", "locals", "maps") are needed and not fitted yet."""
        return self._fitted.missing

    def fitted(self) -> dict[str, FloatArray]:
        """The projections and the detector that queries need as well, as named arrays; `use_fitted` is the inverse.

        The layer of `relook adapt` is among them for the describer that an index carries (`exported.py`); the network
        has its own.
        """
        parts = [part.arrays() for part in (self._ames, self.detector) if part is not None]
        layer = self.network.head.adapted
        if layer is not None:
            parts.append({f"{ADAPTED}.{key}": value.numpy() for key, value in layer.state_dict().items()})
        return self._fitted.arrays() | {key: array for part in parts for key, array in part.items()}

    def use_fitted(self, arrays: Mapping[str, FloatArray]) -> None:
        """Take projections that were fitted before. Raises RelookError when they are of other dimensions."""
        ames = AMESProjection.from_arrays(arrays)
        if self._ames is None and ames is not None:
            self._use_ames(ames)
        if self._config.locals.kind == "detector" and self.detector is None:
            detector = Detector.from_arrays(arrays)
            if detector is not None:
                self._use_detector(detector)
        self._fitted.use(arrays)

    def fit(self, batches: Iterable[Sequence[Prepared]]) -> None:
        """Fit the projections of `to_fit` on these pictures. Raises RelookError when they are too few."""
        self.fit_on(map(self.observe, batches))

    @property
    def fits_on_labels(self) -> bool:
        """See `FittableDescriber.fits_on_labels`."""
        return self._fitted.fits_on_labels

    def fit_on(self, outputs: Iterable[NetworkOutput], labels: Sequence[str] = ()) -> None:
        """See `FittableDescriber.fit_on`. Raises RelookError when it is too little."""
        samples = Samples(self._config)
        for output in outputs:
            output.add_to(samples)
        samples.labels = list(labels)
        self._fitted.fit(samples)

    def prepare(self, image: npt.NDArray[np.uint8], bbox: Box | None = None) -> Prepared:
        """See `Describer.prepare`. Raises RelookError when the `bbox` lies outside the picture."""
        return prepare(image, bbox, self._image, self._pass.scales, self._patch)

    @property
    def smallest(self) -> Smallest | None:
        """What must be left of a photo's sides for `prepare_reduced`; None: photos are read in full."""
        return smallest_for(self._image, self._pass.scales)

    def prepare_reduced(self, image: npt.NDArray[np.uint8], whole: tuple[int, int]) -> Prepared:
        """`prepare` for a photo of which `image` is a reduced one; `whole` is its (width, height)."""
        return prepare_reduced(image, whole, self._image, self._pass.scales, self._patch)

    def describe(self, batch: Sequence[Prepared]) -> list[Description]:
        """See `Describer.describe`."""
        return self.describe_output(self.observe(batch))

    @torch.inference_mode()
    def observe(self, batch: Sequence[Prepared]) -> NetworkOutput:
        """Run the network on pictures of one `shape`; `fit_on` and `describe_output` take the result."""
        self._open_runtime()
        with self._autocast():
            ways = [ways_to_original(item, self._pass.local_scales, self._image, self._patch) for item in batch]
            return self._pass.run(self.input.pyramid(batch), ways)

    def describe_output(self, output: NetworkOutput) -> list[Description]:
        """The descriptions of the pictures that `observe` was given, in order."""
        output = output.on(self._device)
        count = len(output.vectors)
        vectors = self._fitted.apply("globals", output.vectors).cpu().numpy()
        locals_ = [None] * count if output.cells is None else self._locals(output.cells, output.to_original)
        maps = [None] * count if output.maps is None else self._maps(output.maps)
        return [Description(*parts) for parts in zip(vectors, locals_, maps, strict=True)]

    def _open_runtime(self) -> None:
        """Open the requested runtime, where that has not been done; other threads wait meanwhile."""
        if self._runtime is None:
            return
        with self._opening:
            name = self._runtime
            if name is None:
                return
            try:
                exported = self.export()
                session = open_session(name, exported.graph, self._config.precision)
                exported.check(session, self._config.precision)
                self.network.backbone = cast(Backbone, CompiledBackbone(self.network.backbone, session))
            except RelookError as error:
                logger.warning("%s: described with torch instead of %s: %s", self._config.name, name, error)
            self._runtime = None

    def _use_ames(self, projection: AMESProjection) -> None:
        """Project locals for AMES, instead of by a fitted PCA. Raises RelookError when they are not as wide."""
        if projection.width != self._widths["locals"]:
            raise RelookError(
                f"describe.locals.projection: the AMES checkpoint takes descriptors of {projection.width} values, "
                f"{self._config.name} gives {self._widths['locals']}"
            )
        self._ames = projection
        self._fitted.do_without("locals")

    def _use_detector(self, detector: Detector) -> None:
        """Have it choose local descriptors. Raises RelookError when the map is not as wide as it takes."""
        if detector.channels != self._widths["locals"]:
            raise RelookError(
                f"describe.locals.detector: the detector takes maps of {detector.channels} channels, "
                f"{self._config.name} gives {self._widths['locals']}"
            )
        self._pass.detector = detector.to(self._device)

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

    def _locals(self, cells: Cells, to_original: Sequence[npt.NDArray[np.float32]]) -> list[LocalDescriptors]:
        """Projected and brought to float32 arrays, per picture."""
        settings = self._config.locals
        unit = settings.kind != "map"  # a cell's length is part of a map
        features = functional.normalize(cells.features, dim=-1) if unit else cells.features
        features = self._ames.apply(features) if self._ames else self._fitted.apply("locals", features, unit=unit)
        return to_local_descriptors(cells, features, to_original, self._pass.local_scales, settings.threshold)

    def _maps(self, levels: list[torch.Tensor]) -> list[FeatureMaps]:
        """Projected and brought to float32 arrays, per picture."""
        channels_last = [self._fitted.apply("maps", level.permute(0, 2, 3, 1), unit=False) for level in levels]
        arrays = [level.permute(0, 3, 1, 2).contiguous().cpu().numpy() for level in channels_last]
        return [tuple(array[row] for array in arrays) for row in range(len(arrays[0]))]

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._config.precision == "float32":
            return nullcontext()
        return torch.autocast(self._device.type, getattr(torch, self._config.precision))


def _detector_of(config: DescribeConfig, channels: int) -> Detector | None:
    """The detector of a configuration; None where an index will bring it."""
    if config.locals.detector is not None:
        return Detector.read(config.locals.detector)
    return Detector.random(channels) if config.weights == "random" else None
