"""The Reranking Transformer for products: its reranker and its network.

One of the rerankers that `--rerank` names.
"""
