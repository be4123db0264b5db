"""Which reranker a name stands for. A new one is one file in this room and one line here."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

from pipeline.errors import unknown_name
from pipeline.rerank.ames.reranker import AMESReranker
from pipeline.rerank.cvnet.reranker import CVNetReranker
from pipeline.rerank.rrt.reranker import RRTReranker
from pipeline.rerank.rrt_sop.reranker import RRTSOPReranker
from pipeline.rerank.superglobal import SuperGlobalReranker
from pipeline.types import Reranker


def load_reranker(name: str, checkpoint: str | Path | None = None, device: str = "cpu", **options: Any) -> Reranker:
    """Build a reranker.

    Args:
        name: a key of `RERANKERS`.
        checkpoint: relook's own file or an official one; untrained rerankers take none.
        device: "cpu" or "cuda".
        options: of the reranker, such as k=9 and beta=0.15 for superglobal, batch_size=128 for rrt.

    Raises:
        UsageError: the name or an option is unknown.
        RelookError: the checkpoint is missing or of another network.
    """
    if name not in RERANKERS:
        raise unknown_name("reranker", name, RERANKERS)
    load = RERANKERS[name]
    known = [key for key in signature(load).parameters if key not in ("checkpoint", "device")]
    for key in options:
        if key not in known:
            raise unknown_name(f"option of reranker {name}", key, known)
    return load(checkpoint, device, **options)


RERANKERS: dict[str, Callable[..., Reranker]] = {
    "superglobal": SuperGlobalReranker.load,
    "cvnet": CVNetReranker.load,
    "rrt": RRTReranker.load,
    "rrt_sop": RRTSOPReranker.load,
    "ames": AMESReranker.load,
}
