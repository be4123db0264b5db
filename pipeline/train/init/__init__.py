"""Initial weights in closed form: networks that compare descriptors from the first step.

Used by `global_descriptor` and `rerankers` before the first step.
"""
