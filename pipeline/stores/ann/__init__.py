"""The local approximate store: lists beside an SQLite file of records.

One of the stores that `--store` names; docs/ann.md says how it is made and measured.
"""
