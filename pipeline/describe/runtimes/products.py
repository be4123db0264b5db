"""Products of matrices on one core, by ONNX Runtime.

For threads that describe side by side, one core each: NumPy's BLAS would divide each small product among all cores,
and its waiting threads take the cores from the other describing threads.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import onnxruntime
from onnx import TensorProto, helper

from pipeline.types import FloatArray

_OPSET, _FORMAT = 17, 8


def one_core_product(rows: FloatArray, matrix: FloatArray) -> FloatArray:
    """[..., D] times [D, d], both float32."""
    flat = rows.reshape(-1, rows.shape[-1])
    found: FloatArray = _session().run(["products"], {"rows": flat, "matrix": matrix})[0]
    return found.reshape(*rows.shape[:-1], matrix.shape[1])


@cache
def _session() -> Any:
    sizes: dict[str, list[str | int | None]] = {
        "rows": ["n", "D"],
        "matrix": ["D", "d"],
        "products": ["n", "d"],
    }
    rows, matrix, products = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in sizes.items()
    )
    node = helper.make_node("MatMul", ["rows", "matrix"], ["products"])
    graph = helper.make_graph([node], "products", [rows, matrix], [products])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_FORMAT)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
