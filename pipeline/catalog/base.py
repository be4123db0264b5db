"""The catalog: records of images under one root, checked.

Every loader of this room returns one; later stages never ask where it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RelookError
from pipeline.types import ImageRecord


@dataclass(frozen=True)
class Catalog:
    """Images in a stable order.

    Attributes:
        root: the folder that relative paths start from.
        records: one per image, ids unique.
        ignored: files met on the way that are no pictures by their name.
    """

    root: Path
    records: tuple[ImageRecord, ...]
    ignored: int = 0

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[ImageRecord]:
        return iter(self.records)

    def file(self, record: ImageRecord) -> Path:
        """The absolute path of a record's file."""
        return self.root / record.path

    def select(self, split: str | None) -> Catalog:
        """Only the images of a split; None: all. Raises RelookError when the split has none, naming those that do."""
        if split is None:
            return self
        kept = tuple(record for record in self.records if record.split == split)
        if not kept:
            splits = sorted({record.split for record in self.records if record.split})
            raise RelookError(f"no image has split {split!r}; there are: {', '.join(splits) or 'no splits at all'}")
        return Catalog(self.root, kept, self.ignored)


def checked(root: Path, records: Iterable[ImageRecord], source: str, ignored: int = 0) -> Catalog:
    """A catalog with unique ids and at least one image. Raises RelookError naming `source` otherwise."""
    seen: dict[str, ImageRecord] = {}
    for record in records:
        if record.id in seen:
            raise RelookError(
                f"{source}: id {record.id!r} stands for both {seen[record.id].path} and {record.path}; "
                "ids must be unique (give them in an id column)"
            )
        seen[record.id] = record
    if not seen:
        raise RelookError(f"{source}: holds no images")
    return Catalog(root.resolve(), tuple(seen.values()), ignored)
