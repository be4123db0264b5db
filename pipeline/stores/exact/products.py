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

# Numbers of ONNX: types of elements, the version of the format, and that of the operators.
_ELEMENTS = {"float32": 1, "float16": 10}
_FORMAT, _OPERATORS = 8, 17


@cache
def product_of(dtype: str) -> Product:
    """What multiplies vectors [N, D] of a type, float32 or float16, with queries [D, Q] float32 to [N, Q] float32.

    It may be called from many threads, and uses one core in each. Sums are float32.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(product_graph(dtype), options, providers=["CPUExecutionProvider"])

    def product(vectors: npt.NDArray[np.floating[Any]], queries: FloatArray) -> FloatArray:
        found: FloatArray = session.run(["products"], {"vectors": vectors, "queries": queries})[0]
        return found

    return product


def product_graph(dtype: str) -> bytes:
    """The ONNX model: `vectors`, widened to float32 where they are halves, times `queries`, is `products`."""
    left, nodes = "vectors", b""
    if dtype == "float16":
        to = _text(1, "to") + _number(3, _ELEMENTS["float32"]) + _number(20, 2)  # 2: an integer
        left, nodes = (
            "widened",
            _message(1, _text(1, "vectors") + _text(2, "widened") + _text(4, "Cast") + _message(5, to)),
        )
    nodes += _message(1, _text(1, left) + _text(1, "queries") + _text(2, "products") + _text(4, "MatMul"))
    values = _matrix(11, "vectors", _ELEMENTS[dtype]) + _matrix(11, "queries", 1) + _matrix(12, "products", 1)
    graph = nodes + _text(2, "products") + values
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
