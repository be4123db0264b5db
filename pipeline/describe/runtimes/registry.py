"""Which runtime a name stands for. A new one is a file in this folder and a line here.

The classes are named as text: a runtime is imported when a graph is opened.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from importlib import import_module, util
from pathlib import Path
from typing import NamedTuple

from pipeline.describe.runtimes.base import Session
from pipeline.errors import RelookError, unknown_name
from pipeline.types import FloatArray


class RuntimeKind(NamedTuple):
    """An entry: "MODULE:CLASS" of its session, the package that it needs, what installs it, and how it can compute."""

    session: str
    package: str
    install: str
    precisions: tuple[str, ...] = ("float32",)


# The one that is installed with relook, which `auto` chooses.
INSTALLED = "onnxruntime"

RUNTIMES: dict[str, RuntimeKind] = {
    INSTALLED: RuntimeKind("pipeline.describe.runtimes.onnx_runtime:OnnxRuntimeSession", "onnxruntime", "relook"),
    "openvino": RuntimeKind(
        "pipeline.describe.runtimes.openvino:OpenVINOSession",
        "openvino",
        "relook[openvino]",
        ("float32", "bfloat16"),
    ),
}


def check_runtime(name: str, precision: str = "float32") -> None:
    """Raises UsageError for an unknown runtime, RelookError for one that is not installed or not of this precision."""
    if name not in RUNTIMES:
        raise unknown_name("runtime", name, ("torch", *RUNTIMES))
    kind = RUNTIMES[name]
    if util.find_spec(kind.package) is None:
        raise RelookError(
            f"describe.runtime = {name}: the package {kind.package} is not installed; run: pip install "
            f"'{kind.install}', or choose another runtime"
        )
    if precision not in kind.precisions:
        able = [other for other, found in RUNTIMES.items() if precision in found.precisions]
        raise RelookError(
            f"describe.runtime = {name}: runs with describe.precision = {' or '.join(kind.precisions)} only, not "
            f"{precision}; choose describe.runtime = {' or '.join([*able, 'torch'])}"
        )


def open_session(name: str, graph: bytes | Path, precision: str = "float32") -> Session:
    """Open a graph with a runtime of `RUNTIMES`.

    Raises:
        UsageError: no such runtime.
        RelookError: it is not installed, cannot open the graph, or cannot compute in this precision here.
    """
    check_runtime(name, precision)
    kind = RUNTIMES[name]
    module, _, cls = kind.session.partition(":")
    options = {"precision": precision} if len(kind.precisions) > 1 else {}
    session: Session = getattr(import_module(module), cls)(graph, **options)
    return session


class LateSession:
    """A session that is opened by the first thread that runs it: with as many cores as that thread may use.

    Raises as `check_runtime` does; where the graph cannot be opened, running it raises RelookError.
    """

    def __init__(self, name: str, graph: bytes, precision: str = "float32") -> None:
        check_runtime(name, precision)
        self._name, self._graph, self._precision = name, graph, precision
        self._session: Session | None = None
        self._opening = threading.Lock()

    def run(self, images: FloatArray, outputs: Sequence[str]) -> Mapping[str, FloatArray]:
        """See `Session.run`."""
        with self._opening:
            if self._session is None:
                self._session = open_session(self._name, self._graph, self._precision)
        return self._session.run(images, outputs)
