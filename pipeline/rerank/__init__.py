"""The second look: one file per reranker, and the fusion of what they say with the global similarity.

Between the store's candidates and the final ranking. `load_reranker` is the way in; `look_again` applies a chain.
"""

from pipeline.rerank.chain import Look, look_again
from pipeline.rerank.registry import load_reranker

__all__ = ["Look", "load_reranker", "look_again"]
