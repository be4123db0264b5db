"""Where networks start from: closed forms that compare from the first step.

Used by the tasks of `global_descriptor` and `rerankers` before the first step.
"""
