"""AMES: its reranker and its network.

One of the rerankers that `--rerank` names.
"""
