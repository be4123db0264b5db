"""ELViS: its reranker, its network and the optimal transport between two sets of local descriptors.

One of the rerankers that `--rerank` names.
"""
