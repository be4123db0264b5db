"""Settings of the reranker `rrt_sop`: the section `rerank.rrt_sop`.

Beside the reranker; imports no network.
"""

from __future__ import annotations

from pipeline.rerank.settings import TransformerSettings


class RRTSOPSettings(TransformerSettings):
    """The Reranking Transformer for products, of whole maps (Tan et al., ICCV 2021); the paper's weight is 0."""
