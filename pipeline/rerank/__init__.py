"""Re-ranking: one file or folder per reranker, and the fusion of their scores with the global similarity.

Between the store's candidates and the final ranking. `load_reranker` makes a reranker; `apply_chain` applies a chain.
Importing this room imports no network: the configuration reads the settings of rerankers from it.
"""

from typing import TYPE_CHECKING, Any

from pipeline.rerank.registry import load_reranker

if TYPE_CHECKING:
    from pipeline.rerank.chain import RerankStep, apply_chain

__all__ = ["RerankStep", "apply_chain", "load_reranker"]


def __getattr__(name: str) -> Any:
    """What needs numpy and more, when it is first used."""
    if name in __all__:
        from pipeline.rerank import chain

        return getattr(chain, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
