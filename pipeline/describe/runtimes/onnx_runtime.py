"""ONNX Runtime on the CPU, in float32: the runtime that is installed with relook.

One session per number of cores, made when it is first needed: a session's threads are fixed when it is opened.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnxruntime

from pipeline.describe.cores import usable_cores
from pipeline.describe.runtimes.base import IMAGES, reason_of
from pipeline.errors import RelookError
from pipeline.types import FloatArray


class OnnxRuntimeSession:
    """See `base.Session`."""

    def __init__(self, graph: bytes | Path) -> None:
        self._graph = graph if isinstance(graph, bytes) else str(graph)
        self._sessions: dict[int, onnxruntime.InferenceSession] = {}
        self._lock = threading.Lock()
        self._open(usable_cores())

    def run(self, images: FloatArray, outputs: Sequence[str]) -> Mapping[str, FloatArray]:
        """See `base.Session.run`."""
        session = self._open(usable_cores())
        try:
            arrays = session.run(list(outputs), {IMAGES: images})
        except Exception as error:  # a class of its own for each kind of failure
            raise RelookError(f"describe.runtime = onnxruntime: {reason_of(error)}") from None
        return dict(zip(outputs, arrays, strict=True))

    def _open(self, cores: int) -> onnxruntime.InferenceSession:
        with self._lock:
            if cores not in self._sessions:
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = cores
                options.log_severity_level = 3
                # Waiting threads that spin take the cores from those that decode.
                options.add_session_config_entry("session.intra_op.allow_spinning", "0")
                try:
                    opened = onnxruntime.InferenceSession(self._graph, options, providers=["CPUExecutionProvider"])
                except Exception as error:  # as above
                    raise RelookError(f"describe.runtime = onnxruntime: {reason_of(error)}") from None
                self._sessions[cores] = opened
            return self._sessions[cores]
