"""Which loader reads what the user names: a folder, a manifest, or NAME:FOLDER for a published data set.

The entry of this room. A new data set is one file in this room and one line here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pipeline.catalog import landmarks
from pipeline.catalog.base import Catalog, DataSet, Outside, refuse_url
from pipeline.catalog.birds import BIRDS
from pipeline.catalog.bucket import load_bucket
from pipeline.catalog.cars import CARS
from pipeline.catalog.class_folders import CLASS_FOLDERS
from pipeline.catalog.folder import load_folder
from pipeline.catalog.grocery import GROCERY
from pipeline.catalog.ilias import ILIAS
from pipeline.catalog.image_manifest import SUFFIXES, is_table, load_manifest
from pipeline.catalog.products import PRODUCTS
from pipeline.catalog.revisited import DISTRACTORS, revisited, revisited_with_distractors
from pipeline.config import EXCLUDE
from pipeline.errors import RelookError, UsageError, unknown_name
from pipeline.files import object_path
from pipeline.types import GroundTruth

DATASETS: dict[str, DataSet] = {
    "roxford5k": revisited("roxford5k"),
    "rparis6k": revisited("rparis6k"),
    "roxford5k+1m": revisited_with_distractors("roxford5k"),
    "rparis6k+1m": revisited_with_distractors("rparis6k"),
    "revisitop1m": DISTRACTORS,
    "gldv2": landmarks.INDEX,
    "gldv2-train": landmarks.TRAIN,
    "gldv2-train-clean": landmarks.TRAIN_CLEAN,
    "sop": PRODUCTS,
    "grocery": GROCERY,
    "cub200": BIRDS,
    "cars196": CARS,
    "classes": CLASS_FOLDERS,
    "ilias": ILIAS,
}

# What is written where a data set's name stands, and may be one that was misspelt.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9+_.-]+")
_SUFFIX_LIST = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
# What tables that are not read have to become.
_UNREAD = {
    ".gz": "; unpack it with gunzip",
    ".zip": "; unpack it",
    ".xlsx": "; save it as CSV UTF-8",
    ".xls": "; save it as CSV UTF-8",
    ".ods": "; save it as CSV UTF-8",
    ".json": "; write it as CSV or Parquet",
    ".jsonl": "; write it as CSV or Parquet",
    ".feather": "; write it as Parquet",
    ".arrow": "; write it as Parquet",
}


def load_catalog(
    source: str,
    labels: Literal["none", "folder"] = "none",
    outside: Outside = "refuse",
    exclude: Sequence[str] | None = EXCLUDE,
) -> Catalog:
    """Find out which images exist.

    Args:
        source: a folder, or s3://BUCKET/FOLDER; a manifest (a file ending in one of `SUFFIXES`, or a folder of Parquet
            files), or NAME:FOLDER with a name of `DATASETS`.
        labels: for a folder, whether the name of the folder a picture lies in is its label.
        outside: for a manifest, whether its paths may lead out of its own folder.
        exclude: for a folder, patterns of what is left out; None: nothing.

    Raises:
        RelookError: it does not exist, or is not what it should be.
        UsageError: NAME is unknown.
    """
    try:
        return _load(source, labels, outside, exclude)
    except OSError as error:  # a folder above it cannot be opened, the name is too long
        raise RelookError(f"{source}: {error.strerror or error}") from None


def load_ground_truth(source: str) -> GroundTruth:
    """The ground truth that a data set publishes.

    Args:
        source: NAME:FOLDER with a name of `DATASETS`.

    Raises:
        UsageError: it is something else, or NAME is unknown.
        RelookError: the data set is not there, or it publishes no queries.
    """
    found = _published(source)
    if found is None:
        raise UsageError(f"{source}: not a published data set; one is written NAME:FOLDER, such as grocery:FOLDER")
    dataset, folder = found
    try:
        return dataset.truth(folder)
    except OSError as error:
        raise RelookError(f"{source}: {error.strerror or error}") from None


def _load(source: str, labels: Literal["none", "folder"], outside: Outside, exclude: Sequence[str] | None) -> Catalog:
    place = object_path(source)
    if place is not None:
        return load_bucket(place, labels, exclude)
    path = Path(source)
    if path.exists() and is_table(path):
        return load_manifest(path, outside)
    if path.is_dir():
        return load_folder(path, labels, exclude)
    if path.exists():
        hint = next((hint for ending, hint in _UNREAD.items() if path.name.lower().endswith(ending)), "")
        raise RelookError(f"{source}: expected a folder or a manifest ending in {_SUFFIX_LIST}{hint}")
    found = _published(source)
    if found is None:
        raise RelookError(f"{source}: no such folder or manifest")
    dataset, folder = found
    return dataset.gallery(folder)


def _published(source: str) -> tuple[DataSet, Path] | None:
    name, colon, folder = source.partition(":")
    if not colon or "/" in name:
        return None
    if name in DATASETS:
        return DATASETS[name], Path(folder)
    if folder.startswith("//"):
        refuse_url(source)
    if not _NAME.fullmatch(name):  # C:\photos, 2024:06
        return None
    raise unknown_name("data set", name, DATASETS)
