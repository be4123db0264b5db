"""OpenVINO on the CPU, in float32 or bfloat16: an optional runtime, `pip install 'relook[openvino]'`.

One compiled model per number of cores, and a request per thread: requests belong to one thread at a time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from pipeline.describe.cores import usable_cores
from pipeline.describe.runtimes.base import IMAGES, reason_of
from pipeline.errors import RelookError
from pipeline.types import FloatArray

_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVINOSession:
    """See `base.Session`.

    Args:
        graph: ONNX.
        precision: "float32" or "bfloat16".

    Raises:
        RelookError: OpenVINO cannot read the graph, or the processor has no instructions for this precision.
    """

    def __init__(self, graph: bytes | Path, precision: str = "float32") -> None:
        self._core, self._hint = openvino.Core(), _HINTS[precision]
        if precision == "bfloat16" and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise RelookError(
                "describe.runtime = openvino: this processor has no instructions for bfloat16; choose "
                "describe.precision = float32, or describe.runtime = torch, which emulates them"
            )
        try:
            self._model = self._core.read_model(graph)
        except Exception as error:  # RuntimeError, and others of its frontends
            raise RelookError(f"describe.runtime = openvino: {reason_of(error)}") from None
        self._compiled: dict[int, Any] = {}
        self._requests = threading.local()
        self._lock = threading.Lock()
        self._compile(usable_cores())

    def run(self, images: FloatArray, outputs: Sequence[str]) -> Mapping[str, FloatArray]:
        """See `base.Session.run`."""
        cores = usable_cores()
        requests: dict[int, Any] = self._requests.__dict__.setdefault("by_cores", {})
        if cores not in requests:
            requests[cores] = self._compile(cores).create_infer_request()
        try:
            requests[cores].infer({IMAGES: images}, share_inputs=True)
            # A copy: the request writes its next results into the same memory.
            return {name: np.array(requests[cores].get_tensor(name).data) for name in outputs}
        except Exception as error:  # as above
            raise RelookError(f"describe.runtime = openvino: {reason_of(error)}") from None

    def _compile(self, cores: int) -> Any:
        with self._lock:
            if cores not in self._compiled:
                several = (os.cpu_count() or 1) if cores == 1 else 1
                settings = {
                    "INFERENCE_PRECISION_HINT": self._hint,  # by default processors with bfloat16 use it
                    "NUM_STREAMS": str(several),
                    "INFERENCE_NUM_THREADS": str(max(cores, several)),
                }
                try:
                    self._compiled[cores] = self._core.compile_model(self._model, "CPU", settings)
                except Exception as error:  # as above
                    raise RelookError(f"describe.runtime = openvino: {reason_of(error)}") from None
            return self._compiled[cores]
