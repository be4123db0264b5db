"""In what `extract` and `reindex` differ. Everything else they share in `engine.py`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SyncPolicy:
    """What a verb does beside describing photos and committing them.

    Attributes:
        verb: the name of its reports.
        change_model: where the configuration requests another model than the index's, make an index of that model
            beside it and switch to it when it is complete; False: that is an error.
        sync_store: bring a store that is not the index itself to the state of the index.
        tidy: merge small parts, remove files that no kept generation needs, and check the length of the others.
    """

    verb: str
    change_model: bool
    sync_store: bool
    tidy: bool


EXTRACT = SyncPolicy("extract", change_model=False, sync_store=False, tidy=False)
REINDEX = SyncPolicy("reindex", change_model=True, sync_store=True, tidy=True)
