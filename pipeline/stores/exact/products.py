"""Products of many vectors with a few queries, by ONNX Runtime: halves are widened inside its threads' caches.

Below `scan.py`. NumPy widens one half at a time, and its BLAS copies both factors before it multiplies and shares
products among threads that wait for each other; ONNX Runtime reads the vectors where they are and widens eight at
once. The graph is two operations: it is written here, because the package `onnx`, which writes graphs, takes longer to
import than a search.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.types import FloatArray

Product = Callable[[npt.NDArray[np.floating[Any]], FloatArray], FloatArray]

# Fewer halves are widened by NumPy in the time that it takes to call another library.
_FEW = 4096
# Numbers of ONNX: types of elements, the version of the format, and that of the operators.
_ELEMENTS = {"float32": 1, "float16": 10}
_FORMAT, _OPERATORS = 8, 17


def widened(halves: npt.NDArray[np.float16]) -> FloatArray:
    """[N, D] float16 as float32; NumPy takes ten times as long for many."""
    if halves.size < _FEW:
        return halves.astype(np.float32)
    found: FloatArray = _session("float16", "widened").run(["widened"], {"vectors": halves})[0]
    return found


@cache
def product_of(dtype: str) -> Product:
    """What multiplies vectors [N, D] of a type, float32 or float16, with queries [D, Q] float32 to [N, Q] float32.

    It may be called from many threads, and uses one core in each. Sums are float32.
    """
    session = _session(dtype, "products")

    def product(vectors: npt.NDArray[np.floating[Any]], queries: FloatArray) -> FloatArray:
        found: FloatArray = session.run(["products"], {"vectors": vectors, "queries": queries})[0]
        return found

    return product


@cache
def _session(dtype: str, output: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(graph_of(dtype, output), options, providers=["CPUExecutionProvider"])


def graph_of(dtype: str, output: str) -> bytes:
    """The ONNX model: `vectors`, as `widened` to float32 where they are halves, times `queries`, is `products`.

    `output` is one of these two names; what it does not need is left out.
    """
    left, nodes = "vectors", b""
    if dtype == "float16":
        to = _text(1, "to") + _number(3, _ELEMENTS["float32"]) + _number(20, 2)  # 2: an integer
        left, nodes = (
            "widened",
            _message(1, _text(1, "vectors") + _text(2, "widened") + _text(4, "Cast") + _message(5, to)),
        )
    inputs = _matrix(11, "vectors", _ELEMENTS[dtype])
    if output == "products":
        nodes += _message(1, _text(1, left) + _text(1, "queries") + _text(2, "products") + _text(4, "MatMul"))
        inputs += _matrix(11, "queries", _ELEMENTS["float32"])
    graph = nodes + _text(2, output) + inputs + _matrix(12, output, _ELEMENTS["float32"])
    return _number(1, _FORMAT) + _message(7, graph) + _message(8, _text(1, "") + _number(2, _OPERATORS))


def _matrix(field: int, name: str, element: int) -> bytes:
    """A ValueInfoProto: a matrix of any size."""
    sizes = _message(1, _text(2, f"{name}.0")) + _message(1, _text(2, f"{name}.1"))
    return _message(field, _text(1, name) + _message(2, _message(1, _number(1, element) + _message(2, sizes))))


def _number(field: int, value: int) -> bytes:
    """A field of protobuf with an integer below 128."""
    return bytes([field << 3, value]) if field < 16 else bytes([(field << 3) & 127 | 128, field >> 4, value])


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())


def _message(field: int, value: bytes) -> bytes:
    """A field of protobuf with bytes, fewer than 16,384 of them."""
    length = [len(value)] if len(value) < 128 else [len(value) & 127 | 128, len(value) >> 7]
    return bytes([field << 3 | 2, *length]) + value
