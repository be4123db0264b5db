"""Training of rerankers: one recipe each, and the registry that names them.

Run by the verb `train-rerank` through `train/loop`.
"""
