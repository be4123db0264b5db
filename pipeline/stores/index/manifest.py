"""`index.json`: which parts make up the index, and the model that made them.

Replacing it is the only commit of an index directory. `next.json` has the same form and holds what a change of model
has made so far; `generations/` has the manifests that can be returned to. docs/index-format.md describes each key.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, ValidationInfo, field_validator

from pipeline.errors import RelookError
from pipeline.files import refuse_bucket, write_bytes
from pipeline.types import KeypointsCard, ModelCard

FORMAT = 2
NAME = "index.json"
STAGED = "next.json"

PartKind = Literal["catalog", "globals", "locals", "maps", "keypoints"]
TableFormat = Literal["parquet", "csv"]
StoredType = Literal["float16", "uint8"]
_CARD = TypeAdapter(ModelCard)


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PartFile(_Stored):
    """One immutable file: its path below the index, its length, and the SHA-256 that it must have."""

    path: str
    bytes: int
    sha256: str

    @field_validator("path")
    @classmethod
    def _stays_below(cls, path: str) -> str:
        parts = path.split("/")
        if {"", ".", ".."} & set(parts) or "\\" in path or ":" in parts[0] or not path.isprintable():
            raise ValueError("the path leads out of the index")
        return path


class Part(_Stored):
    """Rows that were committed together: the same `rows` images in each of its files, in the same order.

    `deleted` are the tombstones: numbers of rows that are no longer there.
    """

    name: str
    rows: int = Field(gt=0, lt=2**31)
    deleted: tuple[int, ...] = ()
    files: dict[PartKind, PartFile]

    @field_validator("deleted")
    @classmethod
    def _are_rows(cls, deleted: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        rows = info.data.get("rows", 0)
        ascending = all(before < after for before, after in pairwise(deleted))
        if deleted and not (ascending and deleted[0] >= 0 and deleted[-1] < rows):
            raise ValueError(f"the tombstones are not ascending rows below {rows}")
        return deleted


class KeypointsMade(_Stored):
    """What made the keypoints of an index: the fields of their `KeypointsCard`, and how they were requested.

    `stored` is the type of their descriptors in the parts, `checkpoint` the file of weights, if one was given.
    """

    kind: str
    weights: str
    settings: dict[str, Any]
    dimension: int
    stored: StoredType
    checkpoint: str | None = None

    @property
    def card(self) -> KeypointsCard:
        """What must be equal for two sets of keypoints to be matched."""
        return KeypointsCard(self.kind, self.weights, self.settings, self.dimension)


class IndexManifest(_Stored):
    """What `index.json` holds.

    `generation` grows by one with every commit; it is `complete` when a run ended with it. `asked` is what the run that
    began the index was told about its model. `earlier` are the manifests that can be returned to, oldest first.
    `keypoints` is what made those of every part that has a file of them.
    """

    format: int = FORMAT
    generation: int = 0
    complete: bool = False
    updated: str = ""
    tables: TableFormat
    images_root: str
    model: dict[str, Any]
    fingerprint: str
    asked: dict[str, Any] | None = None
    fitted: PartFile | None = None
    parts: tuple[Part, ...] = ()
    counts: dict[str, int] = {}
    earlier: tuple[PartFile, ...] = ()
    keypoints: KeypointsMade | None = None

    @property
    def card(self) -> ModelCard:
        """The model that made the descriptors."""
        return ModelCard.from_json(self.model)

    def files(self) -> list[PartFile]:
        """Every file that this generation consists of."""
        files = [file for part in self.parts for file in part.files.values()]
        return [*files, self.fitted] if self.fitted else files


def read_manifest(directory: Path, name: str = NAME) -> IndexManifest:
    """Read the committed generation of an index, or another manifest of it.

    Raises:
        RelookError: there is no index here, it is damaged, or its format is newer than this.
    """
    path = directory / name
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        refuse_bucket(directory)
        raise RelookError(f"{directory}: no index here (there is no {name}); make one with: relook extract") from None
    except OSError as error:
        raise RelookError(f"{path}: cannot be read ({error})") from None
    manifest = parse_manifest(content, str(path))
    _refuse_links(directory, manifest)
    return manifest


def parse_manifest(content: bytes, path: str) -> IndexManifest:
    """The manifest that a file holds; `path` is what errors name. Raises RelookError where it is none."""
    try:
        values = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, or not JSON
        raise RelookError(f"{path}: cannot be read ({error})") from None
    try:
        manifest = IndexManifest.model_validate(_upgraded(values, path))
        unknown = sorted(manifest.model.keys() - ModelCard.__dataclass_fields__.keys())
        if unknown:
            raise ValueError(f"the model card has a key {unknown[0]!r}")
        fingerprint = _CARD.validate_python(manifest.model).fingerprint
    except ValidationError as error:
        raise RelookError(f"{path}: damaged ({_explain(error)})") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RelookError(f"{path}: damaged ({' '.join(str(error).split())})") from None
    if fingerprint != manifest.fingerprint:
        raise RelookError(f"{path}: damaged (the model card does not have fingerprint {manifest.fingerprint})")
    return manifest


def fingerprints_in(directory: Path) -> frozenset[str]:
    """The fingerprints of the committed generation and of a change of model that is under way, as far as they are."""
    found = []
    for name in (STAGED, NAME):  # in this order: the one is removed after the other was replaced
        with suppress(RelookError):
            found.append(read_manifest(directory, name).fingerprint)
    return frozenset(found)


def write_manifest(directory: Path, manifest: IndexManifest, name: str = NAME) -> None:
    """Commit: from here on every reader that opens the index sees `manifest`."""
    write_bytes(directory / name, as_bytes(manifest))


def failures_name(manifest: IndexManifest) -> str:
    """The list, beside the manifest, of what the last run could not read."""
    return f"failures.{manifest.tables}"


def as_bytes(manifest: IndexManifest) -> bytes:
    """The content of a manifest's file."""
    # An index without keypoints is written as before there were any, so that an older relook reads it.
    return manifest.model_dump_json(indent=1, exclude={"keypoints"} if manifest.keypoints is None else None).encode()


def _refuse_links(directory: Path, manifest: IndexManifest) -> None:
    """Refuse links: an index from elsewhere must not make relook read other files of this disk."""
    home, real = os.path.realpath(directory), dict[str, bool]()
    for file in (*manifest.files(), *manifest.earlier):
        path, folder = directory / file.path, file.path.rpartition("/")[0]
        if folder not in real:  # once, since it looks at every folder on the way
            real[folder] = os.path.realpath(directory / folder) == str(Path(home, folder))
        if not real[folder] or path.is_symlink():
            raise RelookError(f"{path}: a link, which a part of an index must not be; copy the file")


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _upgraded(values: Any, path: str) -> Any:
    """The values of a manifest in this format. Raises RelookError for a format that is not known."""
    version = values.get("format") if isinstance(values, dict) else None
    if version == 1:  # it had no earlier generations; the next commit writes the new format
        return {**values, "format": FORMAT, "complete": True}
    if version == FORMAT:
        return values
    newer = isinstance(version, int) and version > FORMAT
    hint = "; a newer relook wrote it: pip install --upgrade relook" if newer else ""
    raise RelookError(f"{path}: index format {version!r}; this relook reads formats 1 and {FORMAT}{hint}")
