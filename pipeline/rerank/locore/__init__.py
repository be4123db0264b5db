"""LoCoRe, the long-context reranker: its reranker, its network and the attention of it.

One of the rerankers that `--rerank` names.
"""
