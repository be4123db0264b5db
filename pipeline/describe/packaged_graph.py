"""The default backbone as an ONNX graph, written from its packaged weights without torch.

What `export.py` has torch export, for the one network that nearly every index is made with: neither torch nor timm is
loaded for it. EfficientNet-Lite0: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks", ICML 2019, table 1, in the lite variant: no squeeze-and-excitation, ReLU6, stem and head of the base width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from pipeline.describe.runtimes.base import FINAL, IMAGES

# The same version of ONNX's operators as the exported graphs have, and of its format.
_OPSET, _FORMAT = 17, 8
# Added to variances: TensorFlow's value.
_EPSILON = np.float32(1e-3)
# GeM counts smaller values as this one.
_SMALLEST = np.float32(1e-6)

VECTOR = "vector"
CHANNELS = 1280
# Stages whose steps are 2, 4, 8, 16 and 32 pixels: sides are multiples of the last.
MULTIPLE = 32


class _Stage(NamedTuple):
    """Blocks of one kind; the first of them has the stride."""

    blocks: int
    kernel: int
    stride: int


_STAGES = (
    _Stage(1, 3, 1),
    _Stage(2, 3, 2),
    _Stage(2, 5, 2),
    _Stage(3, 3, 2),
    _Stage(3, 5, 1),
    _Stage(4, 5, 2),
    _Stage(1, 3, 1),
)


def packaged_graph(weights: Mapping[str, npt.NDArray[Any]], p: float) -> bytes:
    """The graph: `images` [B, 3, h, w] to `final` [B, 1280, h / 32, w / 32] and `vector` [B, 1280], its GeM.

    Args:
        weights: under timm's names.
        p: exponent of GeM; 1: the average.
    """
    made = _Graph(weights)
    value = made.convolution(IMAGES, "conv_stem", "bn1", stride=2, clipped=True)
    for number, stage in enumerate(_STAGES):
        for block in range(stage.blocks):
            value = made.block(value, f"blocks.{number}.{block}", stage.kernel, stage.stride if block == 0 else 1)
    value = made.convolution(value, "conv_head", "bn2", clipped=True)
    made.node("Identity", [value], FINAL)
    made.pool(FINAL, p)
    return made.written()


class _Graph:
    """Nodes and arrays, in the order of the data."""

    def __init__(self, weights: Mapping[str, npt.NDArray[Any]]) -> None:
        self._weights = weights
        self._nodes: list[Any] = []
        self._arrays: list[Any] = []
        self._limits = [self._array("zero", np.float32(0)), self._array("six", np.float32(6))]

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """An operation with one output."""
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def convolution(
        self, value: str, name: str, norm: str, *, stride: int = 1, groups: int = 1, clipped: bool = False
    ) -> str:
        """A convolution with its batch normalisation in its weights, and a ReLU6 where it is `clipped`."""
        kernel = self._weights[f"{name}.weight"]
        scale, shift, mean, variance = (
            self._weights[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = scale / np.sqrt(variance + _EPSILON)
        inputs = [
            value,
            self._array(f"{name}.weight", kernel * factor[:, None, None, None]),
            self._array(f"{name}.bias", shift - mean * factor),
        ]
        side = int(kernel.shape[-1])
        # TensorFlow's padding: where it is odd, one more at the end.
        settings: dict[str, Any] = {"kernel_shape": [side, side], "strides": [stride, stride], "group": groups}
        found = self.node("Conv", inputs, f"{name}.output", auto_pad="SAME_UPPER", **settings)
        return self.node("Clip", [found, *self._limits], f"{name}.clipped") if clipped else found

    def block(self, value: str, name: str, kernel: int, stride: int) -> str:
        """An inverted bottleneck; the first stage has no expansion, and other names for its parts."""
        expands = f"{name}.conv_pwl.weight" in self._weights
        depthwise, projection = ("bn2", ("conv_pwl", "bn3")) if expands else ("bn1", ("conv_pw", "bn2"))
        inner = self.convolution(value, f"{name}.conv_pw", f"{name}.bn1", clipped=True) if expands else value
        groups = int(self._weights[f"{name}.conv_dw.weight"].shape[0])
        inner = self.convolution(
            inner, f"{name}.conv_dw", f"{name}.{depthwise}", stride=stride, groups=groups, clipped=True
        )
        found = self.convolution(inner, f"{name}.{projection[0]}", f"{name}.{projection[1]}")
        entry = self._weights[f"{name}.{'conv_pw' if expands else 'conv_dw'}.weight"]
        entering = entry.shape[1] if expands else entry.shape[0]
        if stride == 1 and entering == self._weights[f"{name}.{projection[0]}.weight"].shape[0]:
            return self.node("Add", [found, value], f"{name}.sum")
        return found

    def pool(self, value: str, p: float) -> None:
        """GeM of a map, as `pooling.gem` computes it."""
        if p == 1:
            self.node("ReduceMean", [value], VECTOR, axes=[2, 3], keepdims=0)
            return
        floor = self.node("Clip", [value, self._array("smallest", _SMALLEST)], "floored")
        powers = self.node("Pow", [floor, self._array("p", np.float32(p))], "powers")
        mean = self.node("ReduceMean", [powers], "mean", axes=[2, 3], keepdims=0)
        self.node("Pow", [mean, self._array("1 / p", np.float32(1 / p))], VECTOR)

    def written(self) -> bytes:
        """The whole model."""
        shapes: dict[str, list[str | int | None]] = {
            IMAGES: ["count", 3, "height", "width"],
            FINAL: ["count", CHANNELS, "rows", "columns"],
            VECTOR: ["count", CHANNELS],
        }
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
        graph = helper.make_graph(self._nodes, "efficientnet_lite0", values[:1], values[1:], self._arrays)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_FORMAT)
        return bytes(model.SerializeToString())

    def _array(self, name: str, values: Any) -> str:
        self._arrays.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name
