"""The default describer without torch: its packaged weights in a graph, run by a compiled runtime.

What `extract` and `reindex` describe a gallery with, where the configuration leaves the default network as it is: the
process neither loads torch nor exports the network. Its card is that of the `NetworkDescriber` of the same
configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pipeline.config import DescribeConfig
from pipeline.describe.card import card_settings
from pipeline.describe.exported import ExportedSpec, GraphDescriber, GraphOutput, unit
from pipeline.describe.packaged_graph import CHANNELS, MULTIPLE, packaged_graph
from pipeline.describe.packaged_weights import MEAN, NAMES, STD, TIMM_NAME, hash_arrays, load_arrays
from pipeline.describe.projections import Fitted, Samples
from pipeline.describe.runtimes.base import FINAL
from pipeline.describe.runtimes.products import one_core_product
from pipeline.describe.runtimes.registry import INSTALLED, LateSession
from pipeline.types import FloatArray, ModelCard, Prepared


def is_packaged(config: DescribeConfig) -> bool:
    """Whether a `PackagedDescriber` describes as the configuration says, on a CPU."""
    image, locals_, whole = config.image, config.locals, config.globals
    return (
        config.name in NAMES
        and config.weights == "pretrained"
        and config.checkpoint is None
        and (config.precision == "float32" or (config.precision == "bfloat16" and config.runtime == "openvino"))
        and config.runtime != "torch"
        and config.superglobal is None
        and not config.maps.levels
        and image.scaling == "picture"
        and whole.kind == "gem"
        and whole.p != "learned"
        and locals_.kind in ("strongest", "map")
        and locals_.stage == "final"
        and not locals_.pre_relu
        and locals_.places == "centre"
        and locals_.projection is None
    )


class PackagedDescriber(GraphDescriber):
    """A `FittableDescriber` of the default network.

    Args:
        config: one that `is_packaged`.

    Attributes:
        graph: the ONNX graph, which an index carries.
        spec: of that graph.

    Raises:
        UsageError: no such runtime.
        RelookError: it is not installed, or not of this precision; the weights cannot be read.
    """

    def __init__(self, config: DescribeConfig) -> None:
        weights = load_arrays()
        image = config.image.model_copy(
            update={
                "mean": config.image.mean or MEAN,
                "std": config.image.std or STD,
                "multiple": config.image.multiple or MULTIPLE,
            }
        )
        assert config.globals.p != "learned"
        self.spec = ExportedSpec(1, FINAL if config.locals.count else "")
        self.graph = packaged_graph(weights, config.globals.p)
        self._weights = hash_arrays(weights)
        runtime = INSTALLED if config.runtime == "auto" else config.runtime
        session = LateSession(runtime, self.graph, config.precision)
        super().__init__(config.model_copy(update={"image": image}), {}, self.spec, session)
        self._projections = Fitted(self._config, dict.fromkeys(("globals", "locals", "maps"), CHANNELS))

    @property
    def card(self) -> ModelCard:
        """What makes the descriptors. Raises RelookError while `to_fit` is not empty."""
        self._projections.check()
        config = self._config
        return ModelCard(
            name=config.name,
            architecture=TIMM_NAME,
            weights=self._weights,
            settings=card_settings(config, p=config.globals.p),
            fitted=self._projections.digest,
            dimension=self._projections.width("globals"),
            local_dimension=self._projections.width("locals") if config.locals.count else 0,
        )

    @property
    def to_fit(self) -> tuple[str, ...]:
        """Which projections ("globals", "locals") are needed and not fitted yet."""
        return self._projections.missing

    @property
    def fits_on_labels(self) -> bool:
        """See `FittableDescriber.fits_on_labels`."""
        return self._projections.fits_on_labels

    def fit(self, batches: Iterable[Sequence[Prepared]]) -> None:
        """See `FittableDescriber.fit`."""
        self.fit_on(map(self.observe, batches))

    def fit_on(self, outputs: Iterable[GraphOutput], labels: Sequence[str] = ()) -> None:
        """See `FittableDescriber.fit_on`. Raises RelookError when it is too little."""
        samples = Samples(self._config)
        for output in outputs:
            chosen = None
            if output.cells is not None:
                cells = output.cells.features
                chosen = cells[:, :: samples.cell_step(cells.shape[1])].reshape(-1, CHANNELS)
                chosen = unit(chosen) if samples.unit else chosen
            samples.add(output.vectors, chosen, None)
        samples.labels = list(labels)
        self._projections.fit(samples)
        self._fitted = self._projections.arrays()

    def fitted(self) -> Mapping[str, FloatArray]:
        """See `FittableDescriber.fitted`."""
        return self._projections.arrays()

    def _product(self, rows: FloatArray, matrix: FloatArray) -> FloatArray:
        """On one core: several threads describe a gallery."""
        return one_core_product(rows, matrix)

    def use_fitted(self, arrays: Mapping[str, FloatArray]) -> None:
        """Take projections that were fitted before. Raises RelookError when they are of other dimensions."""
        self._projections.use(arrays)
        self._fitted = self._projections.arrays()
