"""Which reranker a name stands for, and its settings. A new one is a file or folder in this room and one line here.

Read by the configuration, which makes its section `rerank` of it, and by `load_reranker`, which imports the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import unknown_name
from pipeline.rerank.ames.settings import AMESSettings
from pipeline.rerank.cvnet.settings import CVNetSettings
from pipeline.rerank.matching.settings import MatchingSettings
from pipeline.rerank.rrt.settings import RRTSettings
from pipeline.rerank.rrt_sop.settings import RRTSOPSettings
from pipeline.rerank.settings import RerankerSettings
from pipeline.rerank.superglobal_settings import SuperGlobalSettings

if TYPE_CHECKING:
    from pipeline.types import Reranker


@dataclass(frozen=True)
class RerankerKind:
    """An entry of the registry.

    Attributes:
        made_by: the class, or "MODULE:CLASS", which is imported when a reranker is loaded. Its class method
            `load(checkpoint, device, **options)` makes one.
        settings: its section of the configuration; "top", "weight" and "margin" are the chain's, others options.
        searching: "MODULE:CLASS" that searches use in its place, where it scores a few queries without torch.
    """

    made_by: type | str
    settings: type[RerankerSettings]
    searching: str | None = None

    def loader(self, *, searching: bool = False) -> Callable[..., Reranker]:
        """The function that makes one."""
        wanted = self.searching if searching and self.searching else self.made_by
        if isinstance(wanted, str):
            module, _, name = wanted.partition(":")
            made_by: Any = getattr(import_module(module), name)
        else:
            made_by = wanted
        load: Callable[..., Reranker] = made_by.load
        return load


def load_reranker(
    name: str, checkpoint: str | Path | None = None, device: str = "cpu", *, searching: bool = False, **options: Any
) -> Reranker:
    """Build a reranker.

    Args:
        name: a key of `RERANKERS`.
        checkpoint: relook's own file or an official one; untrained rerankers take none.
        device: "cpu" or "cuda".
        searching: make the one that starts soonest for a few queries, where there is one.
        options: of the reranker, such as k=9 and beta=0.15 for superglobal, batch_size=128 for rrt.

    Raises:
        UsageError: the name or an option is unknown.
        RelookError: the checkpoint is missing or of another network.
    """
    load = kind_named(name).loader(searching=searching)
    known = [key for key in signature(load).parameters if key not in ("checkpoint", "device")]
    for key in options:
        if key not in known:
            raise unknown_name(f"option of reranker {name}", key, known)
    return load(checkpoint, device, **options)


def kind_named(name: str) -> RerankerKind:
    """The entry of a name. Raises UsageError with the nearest known one."""
    if name not in RERANKERS:
        raise unknown_name("reranker", name, RERANKERS)
    return RERANKERS[name]


RERANKERS: dict[str, RerankerKind] = {
    "superglobal": RerankerKind(
        "pipeline.rerank.superglobal:SuperGlobalReranker",
        SuperGlobalSettings,
        searching="pipeline.rerank.superglobal_light:SuperGlobal",
    ),
    "matching": RerankerKind("pipeline.rerank.matching.reranker:MatchingReranker", MatchingSettings),
    "rrt": RerankerKind("pipeline.rerank.rrt.reranker:RRTReranker", RRTSettings),
    "rrt_sop": RerankerKind("pipeline.rerank.rrt_sop.reranker:RRTSOPReranker", RRTSOPSettings),
    "ames": RerankerKind("pipeline.rerank.ames.reranker:AMESReranker", AMESSettings),
    "cvnet": RerankerKind("pipeline.rerank.cvnet.reranker:CVNetReranker", CVNetSettings),
}
