"""Bringing a vector store to the state of an index: comparison, sync, the journal of uploads.

Shared by upload, reindex, verify and evaluate.
"""
