"""A describer's network at one scale, exported by torch as an ONNX graph, and checked against torch.

What a graph computes must not depend on the sizes of the example that it was traced with: it is run on pictures of
other sizes, and one that differs there is refused. Loads torch.
"""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import torch
from torch import nn

from pipeline.describe.backbones import Backbone, Tap
from pipeline.describe.preprocessing import round_to
from pipeline.describe.runtimes.base import FINAL, IMAGES, Session, reason_of
from pipeline.errors import RelookError

# The last version of ONNX's operators that torch's tracing exporter writes without converting its graph.
_OPSET = 17
# Cosine distance to torch in float32 up to which a result counts as the same. bfloat16 rounds to 8 bits.
TOLERANCE = 1e-6
_TOLERANCES = {"float32": TOLERANCE, "bfloat16": 1e-2}
# (height, width) in pixels, before they are rounded to what a backbone takes: of the example, and of the check.
_EXAMPLE = (96, 128)
_CHECKED = ((128, 96), (200, 256), (161, 97))

# One name per output that a head gives, with what it computes from the final map and the tapped ones.
Heads = Mapping[str, Callable[[torch.Tensor, Sequence[torch.Tensor]], torch.Tensor]]


def tap_name(tap: Tap) -> str:
    """The graph's output with the map of a stage."""
    return f"stage{tap.stage}{'_pre_relu' if tap.pre_relu else ''}".replace("-", "last")


class _OneScale(nn.Module):
    """Images [B, 3, h, w] to the final map, the tapped ones, and what the heads give, in that order."""

    def __init__(self, network: nn.Module, backbone: Backbone, taps: Sequence[Tap], heads: Heads) -> None:
        super().__init__()
        self.network, self.backbone = network, backbone
        self.taps, self.heads = list(taps), dict(heads)

    @property
    def names(self) -> list[str]:
        """Of the outputs."""
        return [FINAL, *map(tap_name, self.taps), *self.heads]

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """See the class."""
        final, tapped = self.backbone(images, self.taps)
        return (final, *tapped, *(head(final, tapped) for head in self.heads.values()))


class ExportedNetwork:
    """A graph, and the network that it was exported from.

    Args:
        network: all weights, in evaluation mode on the CPU.
        backbone: of that network.
        taps: stages whose maps are outputs.
        heads: further outputs.
        multiple: pixels; the sides of images are multiples of it.

    Attributes:
        graph: the ONNX graph.

    Raises:
        RelookError: torch cannot export it.
    """

    def __init__(
        self, network: nn.Module, backbone: Backbone, taps: Sequence[Tap], heads: Heads, multiple: int
    ) -> None:
        self._one_scale = _OneScale(network, backbone, taps, heads).eval()
        self._multiple = math.lcm(multiple, backbone.patch)
        self._fixed = backbone.fixed_size
        self.graph = self._export()

    def check(self, session: Session, precision: str = "float32") -> None:
        """Raises RelookError where a session of the graph gives other results than torch in float32.

        Args:
            session: of the graph.
            precision: that it computes in.
        """
        names, generator = self._one_scale.names, torch.Generator().manual_seed(0)
        for size in (self._fixed,) * 2 if self._fixed else _CHECKED:
            height, width = self._sides(size)
            for count in (1, 2):
                images = torch.rand(count, 3, height, width, generator=generator)
                with torch.inference_mode():
                    wanted = self._one_scale(images)
                found = session.run(images.numpy(), names)
                for name, array in zip(names, wanted, strict=True):
                    distance = _distance(found[name], array.numpy())
                    if not distance < _TOLERANCES[precision]:
                        raise RelookError(
                            f"the exported graph differs from torch at {width} x {height} pixels ({name}: cosine "
                            f"distance {distance:.1e})"
                        )

    def _sides(self, size: tuple[int, int]) -> tuple[int, int]:
        return self._fixed or (round_to(size[0], self._multiple), round_to(size[1], self._multiple))

    def _export(self) -> bytes:
        images = torch.zeros(2, 3, *self._sides(_EXAMPLE))
        stream = io.BytesIO()
        with torch.no_grad(), _quietly():
            try:
                shapes = [output.ndim for output in self._one_scale(images)]
                axes = {name: _dynamic(name, dims) for name, dims in zip(self._one_scale.names, shapes, strict=True)}
                torch.onnx.export(
                    self._one_scale,
                    (images,),
                    stream,  # type: ignore[arg-type]  # the tracing exporter takes streams
                    input_names=[IMAGES],
                    output_names=self._one_scale.names,
                    dynamic_axes={IMAGES: _dynamic(IMAGES, 4), **axes},
                    opset_version=_OPSET,
                    # The other exporter takes minutes for what tracing does in a second.
                    dynamo=False,
                )
            except Exception as error:  # whatever a network's parts raise when they are traced
                raise RelookError(f"torch cannot export the network ({reason_of(error)})") from None
        return stream.getvalue()


def on_cpu(network: nn.Module) -> nn.Module:
    """The network itself, or a copy of one on another device."""
    if all(parameter.device.type == "cpu" for parameter in network.parameters()):
        return network
    return deepcopy(network).to("cpu")


def _dynamic(name: str, dims: int) -> dict[int, str]:
    """The axes of an array whose length depends on the input: all but the channels."""
    return {axis: f"{name}_{axis}" for axis in range(dims) if axis != 1 or dims == 3}


def _distance(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest cosine distance of a picture's values; infinite where the shapes differ."""
    if found.shape != wanted.shape:
        return math.inf
    mine, theirs = (array.reshape(len(array), -1).astype(np.float64) for array in (found, wanted))
    lengths = np.linalg.norm(mine, axis=1) * np.linalg.norm(theirs, axis=1)
    return float((1 - (mine * theirs).sum(axis=1) / np.maximum(lengths, 1e-30)).max())


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the warnings of tracing: what they warn of is what the check finds."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    # A network that cannot be exported would be printed to stdout, all of it.
    printed = torch._C._jit_is_onnx_log_enabled()
    torch._C._jit_set_onnx_log_enabled(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            torch._C._jit_set_onnx_log_enabled(printed)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
