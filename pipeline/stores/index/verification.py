"""What is wrong with the files of a generation: other bytes than the manifest says, other ids in one table of a part.

Below `directory.py`. A checksum says that a file is what was written; that the two tables of a part are of the same
images, row by row, is compared here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.errors import RelookError
from pipeline.files import sha256_of
from pipeline.stores.index.manifest import Part, PartFile
from pipeline.stores.index.tables import read_id_column


def wrong_files(directory: Path, files: Iterable[PartFile], quick: bool) -> list[str]:
    """One line per file that is missing, or has another length or, unless `quick`, another checksum."""
    wrong = []
    for file in files:
        path = directory / file.path
        try:
            if not path.is_file():
                wrong.append(f"{path}: missing")
            elif path.stat().st_size != file.bytes:
                wrong.append(f"{path}: {path.stat().st_size} bytes instead of {file.bytes}")
            elif not quick and sha256_of(path) != file.sha256:
                wrong.append(f"{path}: damaged (its checksum differs)")
        except OSError as error:  # a bad disk, of all things, must not end the check
            wrong.append(f"{path}: cannot be read ({error.strerror})")
    return wrong


def differing_ids(directory: Path, parts: Sequence[Part]) -> list[str]:
    """One line per part whose globals have other ids than its catalog, or either another number of rows than the part.

    It names the first row that differs; deleted rows have no ids.
    """
    both = [part for part in parts if {"catalog", "globals"} <= part.files.keys()]
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="read") as pool:
        return [line for line in pool.map(lambda part: _differing(directory, part), both) if line]


def _differing(directory: Path, part: Part) -> str:
    catalog, vectors = (directory / part.files[kind].path for kind in ("catalog", "globals"))
    try:
        ours, theirs = read_id_column(catalog), read_id_column(vectors)
    except RelookError as error:
        return str(error)
    for path, column in ((catalog, ours), (vectors, theirs)):
        if len(column) != part.rows:
            return f"{path}: has {len(column)} rows instead of {part.rows}"
    if ours.equals(theirs):
        return ""
    dead, named = set(part.deleted), part.files["catalog"].path
    for row, (one, other) in enumerate(zip(ours.to_pylist(), theirs.to_pylist(), strict=True)):
        if one != other and row not in dead:
            return f"{vectors}: row {row} of {part.name} has the id {other!r}, and {one!r} in {named}"
    return ""
