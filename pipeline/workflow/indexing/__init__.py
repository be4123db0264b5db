"""Bringing an index to the state of the photos: what changed, extraction, the writer.

Shared by the verbs that write an index.
"""
