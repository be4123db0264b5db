"""Folding: neighbouring small parts become one, and tombstones go.

Called by `compact`, and after a re-indexing that left many small parts. Rows keep their order and their values, bit for
bit; each fold is a commit of its own, so a process killed in between has lost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.stores.index.directory import Index
from pipeline.stores.index.manifest import Part
from pipeline.stores.index.rows import neighbours
from pipeline.stores.index.writer import IndexWriter
from pipeline.types import Description, ImageRecord

# A part of this size is large enough, however few images it has.
MOST_BYTES = 256 << 20


def fold_parts(writer: IndexWriter, part_size: int, *, tombstones: bool = True) -> int:
    """Fold parts until no two neighbours fit into one.

    Args:
        writer: of an index that is there.
        part_size: images in a part at most.
        tombstones: also rewrite parts that have deleted rows and cannot be folded with a neighbour.

    Returns:
        How many parts there are fewer, or without tombstones.
    """
    index = writer.index
    assert index is not None
    folded = 0
    for group in _groups(index.manifest.parts, part_size):
        if len(group) > 1 or (tombstones and group[0].deleted):
            writer.fold(group, *_content(index, group))
            folded += len(group)
    return folded


def small_parts(parts: Sequence[Part], part_size: int) -> int:
    """How many parts hold less than half of what they could."""
    return sum(2 * _alive(part) < part_size and _bytes(part) < MOST_BYTES // 2 for part in parts)


def _groups(parts: Sequence[Part], part_size: int) -> Iterator[list[Part]]:
    """Neighbours that make up one part of at most `part_size` images and `MOST_BYTES`, each in one group."""
    for run in neighbours(part for part in parts if "catalog" in part.files):
        group: list[Part] = []
        rows = size = 0
        for part in run:
            if group and (rows + _alive(part) > part_size or size + _bytes(part) > MOST_BYTES):
                yield group
                group, rows, size = [], 0, 0
            group.append(part)
            rows, size = rows + _alive(part), size + _bytes(part)
        yield group


def _alive(part: Part) -> int:
    return part.rows - len(part.deleted)


def _bytes(part: Part) -> int:
    """What the living rows take, on average."""
    return sum(file.bytes for file in part.files.values()) * _alive(part) // part.rows


def _content(index: Index, group: Sequence[Part]) -> tuple[list[ImageRecord], list[Description]]:
    """The living rows of several parts, in order."""
    records: list[ImageRecord] = []
    descriptions: list[Description] = []
    for part in group:
        rows = index.records_of(part)
        ids = [record.id for record in rows]
        vectors = index.globals_of(part).vectors
        local = index.locals(ids) if "locals" in part.files else [None] * len(ids)
        maps = index.maps(ids) if "maps" in part.files else [None] * len(ids)
        keypoints = index.keypoints(ids) if "keypoints" in part.files else [None] * len(ids)
        records += rows
        descriptions += [Description(*values) for values in zip(vectors, local, maps, keypoints, strict=True)]
    return records, descriptions
