"""`index.json`: which parts make up the index, and the model that made them.

The one mutable file of an index directory: replacing it is the only commit. docs/index-format.md describes each key.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from pipeline.errors import RelookError
from pipeline.files import write_bytes
from pipeline.types import ModelCard

FORMAT = 1
NAME = "index.json"

PartKind = Literal["catalog", "globals", "locals", "maps"]
TableFormat = Literal["parquet", "csv"]


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PartFile(_Stored):
    """One immutable file: its path below the index, its length, and the SHA-256 that it must have."""

    path: str
    bytes: int
    sha256: str


class Part(_Stored):
    """Rows that were committed together: the same `rows` images in each of its files, in the same order.

    `deleted` are the tombstones: numbers of rows that are no longer there.
    """

    name: str
    rows: int
    deleted: tuple[int, ...] = ()
    files: dict[PartKind, PartFile]


class Manifest(_Stored):
    """What `index.json` holds. `generation` grows by one with every commit."""

    format: int = FORMAT
    generation: int = 0
    updated: str = ""
    tables: TableFormat
    images_root: str
    model: dict[str, Any]
    fingerprint: str
    fitted: PartFile | None = None
    parts: tuple[Part, ...] = ()
    counts: dict[str, int] = {}

    @property
    def card(self) -> ModelCard:
        """The model that made the descriptors."""
        return ModelCard.from_json(self.model)

    def files(self) -> list[PartFile]:
        """Every file that this generation consists of."""
        files = [file for part in self.parts for file in part.files.values()]
        return [*files, self.fitted] if self.fitted else files


def read_manifest(directory: Path) -> Manifest:
    """Read the committed generation of an index.

    Raises:
        RelookError: there is no index here, it is damaged, or it is of another format version.
    """
    path = directory / NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RelookError(f"{directory}: no index here (there is no {NAME}); make one with: relook extract") from None
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or not JSON
        raise RelookError(f"{path}: cannot be read ({error})") from None
    version = values.get("format") if isinstance(values, dict) else None
    if version != FORMAT:
        raise RelookError(f"{path}: index format {version!r}; this relook reads format {FORMAT}")
    try:
        manifest = Manifest.model_validate(values)
        fingerprint = manifest.card.fingerprint
    except (ValueError, KeyError, TypeError) as error:
        raise RelookError(f"{path}: damaged ({' '.join(str(error).split())})") from None
    if fingerprint != manifest.fingerprint:
        raise RelookError(f"{path}: damaged (the model card does not have fingerprint {manifest.fingerprint})")
    return manifest


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Commit: from here on every reader that opens the index sees `manifest`."""
    write_bytes(directory / NAME, manifest.model_dump_json(indent=1).encode())
