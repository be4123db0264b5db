"""ILIAS in its published layout: `ilias_core/OBJECT_NNN/query/QNNN_YY.jpg` and `.../pos/PNNN_ZZ.jpg`.

One of the catalog's sources. Kordopatis-Zilos et al., "ILIAS: Instance-Level Image retrieval At Scale", CVPR 2025. The
label of a photo is its object's folder. Distractors (YFCC100M) are published as tar files of 100,000 photos each; those
that were unpacked to `yfcc100m/SHARD/` join the gallery.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pyarrow as pa

from pipeline.catalog.base import Catalog, DataSet, expect, home_of
from pipeline.catalog.column_records import ColumnRecords
from pipeline.catalog.folder import load_folder
from pipeline.errors import RelookError
from pipeline.types import GroundTruth, ImageRecord

_QUERIES = 1_232
_POSITIVES = 4_715
_PHOTO = re.compile(r"(?P<label>[^/]+_(?P<number>\d+))/(?P<kind>query/Q|pos/P)(?P=number)_\d+\.jpe?g", re.IGNORECASE)


def load_gallery(folder: Path) -> Catalog:
    """The positives, ids as in the authors' lists (OBJECT_NNN/pos/PNNN_ZZ.jpg), and distractors (SHARD/NAME.jpg)."""
    home, source = _home(folder), f"ilias:{folder}"
    positives = _photos(home, "pos/P")
    expect(source, "positives", len(positives), _POSITIVES)
    ids = [record.id for record in positives]
    paths = [record.path for record in positives]
    labels = [record.label for record in positives]
    shards = home / "yfcc100m"
    if shards.is_dir():
        names = [record.path for record in load_folder(shards)]
        ids += names
        paths += [f"yfcc100m/{name}" for name in names]
        labels += [""] * len(names)
    columns = {"ids": ids, "paths": paths, "labels": labels}
    arrays = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    return Catalog(home.resolve(), ColumnRecords(**arrays, split="", source=source))


def load_truth(folder: Path) -> GroundTruth:
    """Image queries, whole as the authors ask with them (no box), each with the positives of its object."""
    home = _home(folder)
    positives: dict[str, list[str]] = defaultdict(list)
    for record in _photos(home, "pos/P"):
        positives[record.label].append(record.id)
    queries = _photos(home, "query/Q")
    expect(f"ilias:{folder}", "image queries", len(queries), _QUERIES)
    lonely = next((query for query in queries if not positives[query.label]), None)
    if lonely is not None:
        raise RelookError(f"{home / lonely.path}: its object has no positives")
    groups = {"positive": [positives[query.label] for query in queries]}
    return GroundTruth("ilias", "ilias", home.resolve(), tuple(queries), groups)


ILIAS = DataSet(load_gallery, load_truth)


def _home(folder: Path) -> Path:
    return home_of(folder, "ilias_core", "ilias", "ilias")


def _photos(home: Path, kind: str) -> list[ImageRecord]:
    """Photos of one kind, sorted by id. Raises RelookError for a photo that is not in its place in the layout."""
    found = []
    for record in load_folder(home / "ilias_core"):
        match = _PHOTO.fullmatch(record.path)
        if match is None:
            raise RelookError(
                f"{home / 'ilias_core' / record.path}: not a name of ILIAS, such as a_b_012/pos/P012_00.jpg"
            )
        if match["kind"].lower() == kind.lower():
            found.append(ImageRecord(id=record.path, path=f"ilias_core/{record.path}", label=match["label"]))
    return found
