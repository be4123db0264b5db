"""The built-in store: the index's own tables, searched exactly in memory.

One of the stores that `--store` names; it needs no upload.
"""
