"""What changed in a collection since it was indexed, and the smallest work that follows from it.

Between the catalog and the engine. Size and time of a file are compared first; where they differ, its content decides.
No network is needed, and a photo is read only where size and time leave a doubt.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from stat import S_ISREG

import numpy as np
import numpy.typing as npt

from pipeline.catalog import Catalog
from pipeline.files import ObjectFacts, ObjectPath, Place
from pipeline.types import ImageRecord


@dataclass
class Changes:
    """What to do; counts are of images.

    Attributes:
        catalog: what is there now.
        fresh: [len(catalog)] bool, which of its images have to be described.
        revised: records of images whose descriptors stay, by the id that they have had.
        replaced: ids of other images that moved photos have now; to be deleted in the commit that revises.
        removed: ids that are not there any more.
        moved: the same content under another id or path.
        relabelled: another label or split.
        touched: another time alone.
        equal: nothing to do.
    """

    catalog: Catalog
    fresh: npt.NDArray[np.bool_]
    revised: dict[str, ImageRecord] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    moved: int = 0
    relabelled: int = 0
    touched: int = 0
    equal: int = 0

    def todo(self, first: Sequence[int] = ()) -> Iterator[ImageRecord]:
        """The images to describe, made one by one: a list of a million records would take much memory.

        Those of the rows `first`, which are fresh, come before the others.
        """
        others = self.fresh.copy()
        others[list(first)] = False
        yield from (self.catalog.records[row] for row in first)
        yield from compress(self.catalog, others)


def find_changes(catalog: Catalog, known: Mapping[str, ImageRecord], *, check_content: bool = False) -> Changes:
    """Compare a catalog with an index.

    Args:
        catalog: what is there now.
        known: the index's records by id.
        check_content: read every photo, also those whose size and time are unchanged.
    """
    changes = Changes(catalog, np.zeros(len(catalog), dtype=bool))
    free = dict(known)  # rows that no photo has been matched with
    for row, record in enumerate(catalog):
        old = known.get(record.id)
        same = None if old is None else _same(catalog, record, old, check_content)
        if old is None or same is None:
            changes.fresh[row] = True
            continue
        del free[record.id]
        _count(changes, old, same)
        if same != old:
            changes.revised[old.id] = same
    taken = _find_moved(changes, free)
    left = free.keys() - taken
    changes.removed = left - {record.id for record in catalog}
    # An id that goes to a moved photo has to be free in the same commit.
    changes.replaced = left & {changes.revised[name].id for name in taken}
    changes.removed -= changes.replaced
    return changes


def _same(catalog: Catalog, record: ImageRecord, old: ImageRecord, check_content: bool) -> ImageRecord | None:
    """The record as it is now, of an image whose descriptors are still right; None where they are not."""
    path = catalog.file(record)
    if old.bbox != record.bbox:
        return None
    try:
        facts = path.stat()
    except OSError:
        return None
    now = replace(old, path=record.path, label=record.label, split=record.split, mtime_ns=facts.st_mtime_ns)
    if facts.st_size != old.size:
        return None
    if (facts.st_mtime_ns, record.path) == (old.mtime_ns, old.path) and not check_content:
        return now
    return now if _content(path, facts) == old.sha256 else None


def _find_moved(changes: Changes, free: Mapping[str, ImageRecord]) -> set[str]:
    """Give rows whose image is gone, or is another now, to new images with their content; returns the ids taken."""
    if not free or not changes.fresh.any():
        return set()
    sizes = {old.size for old in free.values()}
    by_content: dict[tuple[str, object], list[str]] = {}
    for name in sorted(free, reverse=True):
        by_content.setdefault((free[name].sha256, free[name].bbox), []).append(name)
    taken, rows = set(), []
    for row, record in zip(np.flatnonzero(changes.fresh), changes.todo(), strict=True):
        path = changes.catalog.file(record)
        try:
            facts = path.stat()
        except OSError:
            continue
        names = by_content.get((_content(path, facts), record.bbox)) if facts.st_size in sizes else None
        if names:
            name = names.pop()
            taken.add(name)
            changes.revised[name] = replace(
                free[name],
                id=record.id,
                path=record.path,
                label=record.label,
                split=record.split,
                mtime_ns=facts.st_mtime_ns,
            )
            changes.moved += 1
            rows.append(row)
    changes.fresh[rows] = False
    return taken


def _count(changes: Changes, old: ImageRecord, now: ImageRecord) -> None:
    if now == old:
        changes.equal += 1
    elif now.path != old.path:
        changes.moved += 1
    elif (now.label, now.split) != (old.label, old.split):
        changes.relabelled += 1
    else:
        changes.touched += 1


def _content(path: Place, facts: os.stat_result | ObjectFacts) -> str:
    """The SHA-256 of a file that is still what `facts` say after it was read; "" otherwise."""
    if isinstance(path, ObjectPath):
        try:
            return path.sha256()
        except FileNotFoundError:
            return ""
    if not S_ISREG(facts.st_mode):
        return ""
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            after = os.fstat(stream.fileno())
    except OSError:
        return ""
    unchanged = (after.st_size, after.st_mtime_ns) == (facts.st_size, facts.st_mtime_ns)
    return digest if unchanged else ""
