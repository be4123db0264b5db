"""The index directory: immutable parts, one manifest, and the lock of its one writer.

Between describers and stores. `directory` reads a generation, `writer` commits one.
Layout: docs/index-format.md.
"""
