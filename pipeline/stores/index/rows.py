"""Which row of which part each image has, and the parts of a commit that deletes or renames some of them.

Used by the index writer. Deleted rows become tombstones; rows under other words (a moved file, another label) get new
tables, while the files of their local descriptors and maps stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipeline.errors import RelookError
from pipeline.stores.index.manifest import IndexManifest, Part, PartKind
from pipeline.stores.index.part_files import PartFiles
from pipeline.stores.index.tables import read_globals, read_ids, read_records
from pipeline.types import ImageRecord

Places = dict[str, tuple[str, int]]


def places_of(directory: Path, manifest: IndexManifest) -> Places:
    """The part's name and the row of every id that is not deleted."""
    places: Places = {}
    for part in manifest.parts:
        file = part.files.get("catalog") or part.files["globals"]
        dead = set(part.deleted)
        places |= {
            name: (part.name, row) for row, name in enumerate(read_ids(directory / file.path)) if row not in dead
        }
    return places


def without(manifest: IndexManifest, places: Places, ids: Iterable[str]) -> tuple[Part, ...]:
    """The parts with tombstones on the rows of `ids`; a part without living rows is dropped."""
    rows: dict[str, set[int]] = {}
    for name in ids:
        part_name, row = places[name]
        rows.setdefault(part_name, set()).add(row)
    parts = []
    for part in manifest.parts:
        if part.name not in rows:
            parts.append(part)
            continue
        deleted = rows[part.name].union(part.deleted)
        if len(deleted) < part.rows:
            parts.append(part.model_copy(update={"deleted": tuple(sorted(deleted))}))
    return tuple(parts)


def without_kind(part: Part, kind: PartKind) -> Part:
    """The same part without its file of a kind."""
    if kind not in part.files:
        return part
    return part.model_copy(update={"files": {name: file for name, file in part.files.items() if name != kind}})


def revised(
    directory: Path, manifest: IndexManifest, places: Places, records: Mapping[str, ImageRecord], gone: Iterable[str]
) -> tuple[Part, ...]:
    """The parts without the rows of `gone`, and with other `records` for the images that now have their keys as ids.

    Raises:
        RelookError: two images would have one id, or one has no row of its own.
    """
    gone = set(gone)
    new = [record.id for record in records.values()]
    staying = places.keys() - records.keys() - gone
    if len(set(new)) < len(new) or not staying.isdisjoint(new):
        raise RelookError(f"{directory}: two images would have one id")
    rows: dict[str, dict[int, ImageRecord]] = {}
    for name, record in records.items():
        part_name, row = places[name]
        rows.setdefault(part_name, {})[row] = record
    return tuple(_revised(directory, manifest, part, rows) for part in without(manifest, places, gone))


def neighbours(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """Runs of adjacent parts that have the same kinds of files."""
    run: list[Part] = []
    for part in parts:
        if run and run[-1].files.keys() != part.files.keys():
            yield run
            run = []
        run.append(part)
    if run:
        yield run


def _revised(
    directory: Path, manifest: IndexManifest, part: Part, rows: Mapping[str, Mapping[int, ImageRecord]]
) -> Part:
    changes = rows.get(part.name)
    if not changes:
        return part
    if "catalog" not in part.files:
        raise RelookError(f"{directory}: {part.name} has no catalog, so nothing else can be said of its images")
    records = read_records(directory / part.files["catalog"].path)
    shown = any(_shown(records[row]) != _shown(record) for row, record in changes.items())
    for row, record in changes.items():
        records[row] = record
    vectors = None
    if shown:
        vectors = read_globals(directory / part.files["globals"].path, manifest.card.dimension).vectors
    return PartFiles(directory, manifest).rewrite(part, records, vectors)


def _shown(record: ImageRecord) -> tuple[str, str, str, str]:
    """What the table of global descriptors repeats."""
    return record.id, record.label, record.path, record.split
