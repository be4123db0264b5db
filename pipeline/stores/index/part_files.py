"""The files of a part: written whole, checked before, with the checksum that the manifest keeps.

Between the index writer, which commits parts, and the modules that know each kind of file.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, get_args

import numpy as np
from safetensors.numpy import save

from pipeline.errors import RelookError
from pipeline.files import atomic_path, link_file, sha256_of, write_errors
from pipeline.stores.index.keypoint_store import EncodedKeypoints, encode, write_keypoints
from pipeline.stores.index.local_store import write_locals
from pipeline.stores.index.manifest import IndexManifest, Part, PartFile, PartKind
from pipeline.stores.index.map_store import write_maps
from pipeline.stores.index.tables import write_globals, write_records
from pipeline.types import Description, FloatArray, ImageRecord, Keypoints, LocalDescriptors

Item = TypeVar("Item")


class PartFiles:
    """Writes the files of the parts that the next commit of a manifest names.

    Args:
        directory: the index.
        manifest: the generation that the commit follows.
    """

    def __init__(self, directory: Path, manifest: IndexManifest) -> None:
        self._directory, self._manifest = directory, manifest
        self._name = _new_name(directory, manifest)

    def write(self, records: Sequence[ImageRecord], descriptions: Sequence[Description]) -> Part:
        """A part of N images.

        Raises:
            RelookError: duplicate ids, a vector of another dimension or not finite, local descriptors, maps or
                keypoints of some images only.
        """
        ids = [record.id for record in records]
        vectors = np.stack([description.vector for description in descriptions])
        _check(ids, vectors, self._manifest.card.dimension)
        local = _all_or_none([description.locals for description in descriptions], "local descriptors")
        maps = _all_or_none([description.maps for description in descriptions], "feature maps")
        keypoints = _all_or_none([description.keypoints for description in descriptions], "keypoints")
        files = self._tables(records, vectors)
        if local:
            files["locals"] = self._file("locals", lambda path: self._write_locals(path, ids, local))
        if maps:
            files["maps"] = self._file("maps", lambda path: write_maps(path, ids, maps))
        if keypoints:
            files["keypoints"] = self.write_keypoints(ids, [self._encoded(item) for item in keypoints])
        return Part(name=self._name, rows=len(records), files=files)

    def write_vectors(self, ids: Sequence[str], vectors: FloatArray, metadata: Sequence[Mapping[str, str]]) -> Part:
        """A part of global descriptors alone. Raises RelookError as `write` does."""
        _check(ids, vectors, self._manifest.card.dimension)
        file = self._file("globals", lambda path: write_globals(path, ids, vectors, metadata))
        return Part(name=self._name, rows=len(ids), files={"globals": file})

    def write_keypoints(self, ids: Sequence[str], items: Sequence[EncodedKeypoints]) -> PartFile:
        """The keypoints of a part's images, one item per row."""
        return self._file("keypoints", lambda path: write_keypoints(path, ids, items))

    def adopt(self, directory: Path, part: Part, kinds: Collection[PartKind]) -> None:
        """Link the files of a part of another index directory, which becomes a part of this under its own name.

        Args:
            directory: the other index.
            part: of it.
            kinds: of the files that are there; the others lie where those of this index do, in its bucket.

        Raises:
            RelookError: a file is missing, or has another length than its manifest says.
        """
        for kind, file in part.files.items():
            if kind not in kinds:
                continue
            source, target = directory / file.path, self._directory / file.path
            try:
                size = source.stat().st_size
            except OSError as error:
                raise RelookError(f"{source}: cannot be read ({error.strerror})") from None
            if size != file.bytes:
                raise RelookError(f"{source}: {size} bytes instead of {file.bytes}")
            with write_errors(target):
                link_file(source, target)

    def rewrite(self, part: Part, records: Sequence[ImageRecord], vectors: FloatArray | None) -> Part:
        """The same rows under other words: new tables, the HDF5 files as they are.

        Args:
            part: what the rows belong to.
            records: one per row, deleted rows too.
            vectors: of all rows, where an id, label, path or split changed; None: the globals stay as well.
        """
        files = self._tables(records, vectors)
        # By its name others know a part and what it holds: it stays where only the catalog changes.
        name = part.name if vectors is None else self._name
        return part.model_copy(update={"name": name, "files": {**part.files, **files}})

    def _tables(self, records: Sequence[ImageRecord], vectors: FloatArray | None) -> dict[PartKind, PartFile]:
        ids = [record.id for record in records]
        metadata = [{"label": r.label, "path": r.path, "split": r.split} for r in records]
        files: dict[PartKind, PartFile] = {"catalog": self._file("catalog", lambda path: write_records(path, records))}
        if vectors is not None:
            files["globals"] = self._file("globals", lambda path: write_globals(path, ids, vectors, metadata))
        return files

    def _file(self, kind: PartKind, write: Callable[[Path], object]) -> PartFile:
        return write_file(self._directory, f"{kind}/{self._name}.{_suffix(kind, self._manifest)}", write)

    def _encoded(self, keypoints: Keypoints) -> EncodedKeypoints:
        made = self._manifest.keypoints
        if made is None:
            raise RelookError("keypoints were described, but the index is not said to have any")
        return encode(keypoints, made.stored)

    def _write_locals(self, path: Path, ids: Sequence[str], items: Sequence[LocalDescriptors]) -> None:
        """As the model card says: how many, of which kind, with or without their geometry."""
        card = self._manifest.card.locals
        write_locals(
            path,
            ids,
            [item.first(card.stored) for item in items],
            bits=card.binary,
            geometry=card.geometry,
        )


def write_fitted(directory: Path, fitted: Mapping[str, FloatArray], fingerprint: str) -> PartFile:
    """Write the projections of a model; those of two models lie side by side."""
    content = save(dict(fitted))
    return write_file(directory, f"model/fitted-{fingerprint}.safetensors", lambda path: path.write_bytes(content))


def write_file(directory: Path, relative: str, write: Callable[[Path], object]) -> PartFile:
    """Have `write` write a file of the index, in one step. Raises RelookError when the disk is full or closed to us."""
    path = directory / relative
    with write_errors(path), atomic_path(path) as temporary:
        write(temporary)
        checksum, size = sha256_of(temporary), temporary.stat().st_size
    return PartFile(path=relative, bytes=size, sha256=checksum)


def _new_name(directory: Path, manifest: IndexManifest) -> str:
    """A part's name that no file has: an earlier generation may still need a part of the same number.

    Nor has one of another directory: what shards write lies side by side in a bucket.
    """
    while True:
        name = f"part-{manifest.generation + 1:06d}-{secrets.token_hex(6)}"
        files = [f"{kind}/{name}.{_suffix(kind, manifest)}" for kind in get_args(PartKind)]
        if not any((directory / file).exists() for file in files):
            return name


def _suffix(kind: PartKind, manifest: IndexManifest) -> str:
    return "h5" if kind in ("locals", "maps", "keypoints") else manifest.tables


def _all_or_none(items: Sequence[Item | None], what: str) -> list[Item]:
    """What every image has, or nothing where none has it. Raises RelookError when only some have."""
    there = [item for item in items if item is not None]
    if there and len(there) != len(items):
        raise RelookError(f"only {len(there)} of {len(items)} images of a part have {what}")
    return there


def _check(ids: Sequence[str], vectors: FloatArray, dimension: int) -> None:
    if len(set(ids)) != len(ids):
        twice, _ = Counter(ids).most_common(1)[0]
        raise RelookError(f"duplicate id {twice!r} in one part; ids must be unique")
    if vectors.shape != (len(ids), dimension):
        raise RelookError(f"vectors of shape {vectors.shape} for {len(ids)} ids; expected [{len(ids)}, {dimension}]")
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(wrong):
        raise RelookError(f"the vector of {ids[wrong[0]]!r} holds NaN or infinity")
