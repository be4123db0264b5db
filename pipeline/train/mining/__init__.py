"""Mining without labels: verified pairs of photos, their graph, and the groups that it falls into.

Joined with an index and a matcher by `pipeline.workflow.training.mining`; read by `relook adapt`.
"""
