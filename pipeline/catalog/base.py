"""The catalog: records of images under one root, checked.

Every loader of this room returns one; later stages do not depend on where it came from.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from pipeline.catalog.column_records import ColumnRecords
from pipeline.errors import RelookError
from pipeline.files import ObjectFacts, ObjectPath, Place
from pipeline.types import GroundTruth, ImageRecord

logger = logging.getLogger("relook")

# Path() and shells fold the second slash of https://, so one is enough.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://?[^/]")

# What happens to a path that leads out of its catalog's folder.
Outside = Literal["refuse", "allow"]


@dataclass(frozen=True)
class Catalog:
    """Images in a stable order.

    Attributes:
        root: the folder that relative paths start from, or the prefix in a bucket.
        records: one per image, ids unique; columns where there may be a million.
        ignored: how many files are not pictures by their names, and links to folders.
        failed: (id, path, reason) of pictures that no record can name; id and path are printable stand-ins.
        listed: sizes and times of objects in a bucket by their paths, so that none is looked up alone.
    """

    root: Place
    records: Sequence[ImageRecord]
    ignored: int = 0
    failed: tuple[tuple[str, str, str], ...] = ()
    listed: Mapping[str, ObjectFacts] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[ImageRecord]:
        return iter(self.records)

    def file(self, record: ImageRecord) -> Place:
        """The absolute path of a record's file."""
        place: Place = self.root / record.path
        return replace(place, facts=self.listed.get(record.path)) if isinstance(place, ObjectPath) else place

    def select(self, split: str | None) -> Catalog:
        """Only the images of a split; None: all. Raises RelookError when the split has none, naming those that do."""
        if split is None or (isinstance(self.records, ColumnRecords) and self.records.split == split):
            return self
        kept = tuple(record for record in self.records if record.split == split)
        if not kept:
            splits = sorted({record.split for record in self.records if record.split})
            raise RelookError(f"no image has split {split!r}; there are: {', '.join(splits) or 'no splits at all'}")
        return replace(self, records=kept)


@dataclass(frozen=True)
class DataSet:
    """A published data set.

    Attributes:
        gallery: reads the photos that are searched or trained on, below its folder.
        truth: reads the ground truth that its authors publish.
    """

    gallery: Callable[[Path], Catalog]
    truth: Callable[[Path], GroundTruth]


def labelled(name: str, protocol: str, gallery: Callable[[Path], Catalog]) -> DataSet:
    """A data set whose labels are its ground truth: every photo is a query, those of its label are relevant."""

    def truth(folder: Path) -> GroundTruth:
        root = gallery(folder).root
        assert isinstance(root, Path)
        return GroundTruth(name, protocol, root)

    return DataSet(gallery, truth)


def expect(source: str, what: str, found: int, published: int) -> None:
    """Log a warning when a folder does not have what was published: its figures are not those of the data set."""
    if found != published:
        logger.warning("%s: %s %s, published are %s", source, f"{found:,}", what, f"{published:,}")


def home_of(folder: Path, landmark: str, name: str, inner: str = "") -> Path:
    """`folder`, or the folder `inner` that the published archive makes in it: the one where `landmark` lies.

    Raises:
        RelookError: it lies in neither; the message says that this is not the data set `name`.
    """
    for place in (folder, folder / inner):
        if (place / landmark).exists():
            return place
    raise RelookError(f"{folder}: not the data set {name} (there is no {landmark}); run: relook fetch {name}")


def read_lines(file: Path) -> list[str]:
    """The lines of a list that are not empty. Raises RelookError when it cannot be read as UTF-8."""
    try:
        # Not splitlines: a name may hold what Unicode calls a line separator.
        return [line for line in file.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise RelookError(f"{file}: cannot be read ({error})") from None


def checked(
    root: Place,
    records: Iterable[ImageRecord],
    source: str,
    ignored: int = 0,
    failed: Iterable[tuple[str, str, str]] = (),
    outside: Outside = "refuse",
    listed: Mapping[str, ObjectFacts] | None = None,
) -> Catalog:
    """A catalog with unique ids, at least one image, and unless `outside` says "allow" none that lies elsewhere.

    Raises RelookError naming `source` otherwise.
    """
    roots = (root.absolute(), root.resolve()) if isinstance(root, Path) else ()
    seen: dict[str, ImageRecord] = {}
    for number, record in enumerate(records, start=1):
        if outside == "refuse" and _leaves(record.path, roots):
            raise RelookError(
                f"{source}, image {number}: the path {record.path!r} leads out of {root}; to allow that: "
                "--set catalog.outside=allow"
            )
        if record.id in seen:
            first = list(seen).index(record.id) + 1
            raise RelookError(
                f"{source}: duplicate id {record.id!r} of image {first} ({seen[record.id].path}) and image {number} "
                f"({record.path}); give each image an id of its own in a column id, or remove one"
            )
        seen[record.id] = record
    failed = tuple(failed)
    if not seen:
        reason = f"; the names of {len(failed)} are not UTF-8, such as {failed[0][1]}" if failed else ""
        raise RelookError(f"{source}: holds no images{reason}")
    return Catalog(root.resolve(), tuple(seen.values()), ignored, failed, listed or {})


def refuse_url(source: str) -> None:
    """Raises RelookError for what is written like a URL, unless a file has that name."""
    if _URL.match(source) and not Path(source).exists():
        raise RelookError(f"{source}: relook reads files and fetches no URLs; download it and give the file or folder")


def _leaves(path: str, roots: Iterable[Path]) -> bool:
    """By the text of the path alone. Links count by their name: who may make one owns the folder."""
    if ".." in path and ".." in path.split("/"):
        return True
    absolute = path.startswith("/") or (path[1:3] == ":/" and path[0].isalpha())  # a drive of Windows
    return absolute and not any(PurePosixPath(path).is_relative_to(root.as_posix()) for root in roots)
