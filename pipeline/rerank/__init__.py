"""The second look: one file per reranker, and the fusion of what they say with the global similarity.

Between the store's candidates and the final ranking. `load_reranker` is the way in; `apply_chain` applies a chain.
"""

from pipeline.rerank.chain import RerankStep, apply_chain
from pipeline.rerank.registry import load_reranker

__all__ = ["RerankStep", "apply_chain", "load_reranker"]
