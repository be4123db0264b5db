"""Around the training loop: selection of photos, validation, files and progress of a run.

Shared by train-global and train-rerank.
"""
