"""Which reranker a name stands for. A new one is one file in this room and one line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError, unknown_name
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
    try:
        return RERANKERS[name](checkpoint, device, **options)
    except TypeError as error:
        raise UsageError(f"reranker {name}: {error}") from None


def _superglobal(checkpoint: str | Path | None, device: str, **options: Any) -> Reranker:
    if checkpoint is not None:
        raise UsageError(f"reranker superglobal is not trained; it takes no checkpoint ({checkpoint})")
    return SuperGlobalReranker(device=device, **options)


RERANKERS: dict[str, Callable[..., Reranker]] = {
    "superglobal": _superglobal,
    "cvnet": CVNetReranker.load,
    "rrt": RRTReranker.load,
    "rrt_sop": RRTSOPReranker.load,
    "ames": AMESReranker.load,
}
