"""The built-in store: the index's own tables, searched exactly, in their files and in memory.

One of the stores that `--store` names; it needs no upload.
"""
