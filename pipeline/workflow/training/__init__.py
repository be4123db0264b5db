"""Around the training loop: which photos, validation, checkpoints and the run itself.

Shared by train-global and train-rerank.
"""
