"""The index directory, read: one pinned generation of it.

Opened by every stage that looks something up. A reader holds the manifest it opened; parts never change, so what it
sees stays whole while a writer adds to the index. Layout: docs/index-format.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import RelookError
from pipeline.files import Place, located
from pipeline.stores.index.arrow_rows import arrow_rows
from pipeline.stores.index.carried_describer import StoredDescriber, read_describer
from pipeline.stores.index.image_rows import ImageRows
from pipeline.stores.index.keypoint_store import KeypointStore
from pipeline.stores.index.local_store import LocalStore
from pipeline.stores.index.manifest import IndexManifest, Part, PartKind, failures_name, read_manifest
from pipeline.stores.index.map_store import MapStore
from pipeline.stores.index.part_ids import PartIds
from pipeline.stores.index.record_lookup import RecordLookup
from pipeline.stores.index.run_reports import read_failure_rows, read_failures
from pipeline.stores.index.tables import (
    RECORDS_SCHEMA,
    read_globals,
    read_ids,
    read_metadata,
    read_record_table,
    read_records,
    stream_globals,
)
from pipeline.stores.index.vector_rows import VectorRows
from pipeline.stores.index.verification import differing_ids, wrong_files
from pipeline.stores.once import once_property
from pipeline.types import (
    FeatureMaps,
    FloatArray,
    ImageRecord,
    Keypoints,
    KeypointsCard,
    LocalDescriptors,
    ModelCard,
    StoredVectors,
)


class Index:
    """One generation of an index directory.

    Attributes:
        directory: where it lies.
        manifest: the generation that was committed when it was opened.
    """

    def __init__(self, directory: Path, manifest: IndexManifest | None = None) -> None:
        """Open the committed generation (or the given one). Raises RelookError when there is none or it is damaged."""
        self.directory = directory
        self.manifest = manifest or read_manifest(directory)

    @property
    def card(self) -> ModelCard:
        """The model that made the descriptors."""
        return self.manifest.card

    @once_property
    def records(self) -> dict[str, ImageRecord]:
        """Every image of the index by id, in the order in which they were added."""
        parts = map(self.records_of, self._parts_with("catalog"))
        return {record.id: record for records in parts for record in records}

    def find_records(self, ids: Sequence[str]) -> list[ImageRecord]:
        """The records of some images, in the order of `ids`: the others are not read.

        Raises:
            RelookError: the index does not have one of these ids.
        """
        return self._record_lookup.read(ids)

    def has(self, ids: Sequence[str]) -> npt.NDArray[np.bool_]:
        """For each id whether this generation has an image of it."""
        return self._rows.find(ids)[0] >= 0

    def catalog(self) -> pa.Table:
        """Every image as a row with the columns of `ImageRecord`; `bbox` is the text "x0 y0 x1 y1", or empty."""
        parts = self._parts_with("catalog")
        tables = [(part, read_record_table(self._file(part, "catalog"))) for part in parts]
        kept = [table.take(arrow_rows(_alive(part))) if part.deleted else table for part, table in tables]
        return pa.concat_tables([RECORDS_SCHEMA.empty_table(), *kept])

    def records_of(self, part: Part) -> list[ImageRecord]:
        """The images of one part of this generation, deleted rows left out."""
        records = read_records(self._file(part, "catalog"))
        return [records[row] for row in _alive(part)] if part.deleted else records

    def image_file(self, record: ImageRecord) -> Place:
        """Where the photo of a record lies: a file, or an object in a bucket."""
        return self.images_root / record.path

    @once_property
    def images_root(self) -> Place:
        """Where the records' relative paths start from."""
        return located(self.manifest.images_root)

    def globals_parts(self) -> Iterator[StoredVectors]:
        """The global descriptors, part by part, deleted rows left out."""
        return map(self.globals_of, self.manifest.parts)

    def globals_of(self, part: Part) -> StoredVectors:
        """The global descriptors of one part of this generation, deleted rows left out."""
        table = read_globals(self._file(part, "globals"), self.card.dimension)
        return table.rows(_alive(part)) if part.deleted else table

    def stream_globals(self, part: Part) -> Iterator[tuple[pa.Array, FloatArray]]:
        """Ids and vectors of one part in pieces of some thousand rows, deleted rows left out."""
        first, alive = 0, np.ones(part.rows, np.bool_)
        alive[list(part.deleted)] = False
        for ids, vectors in stream_globals(self._file(part, "globals"), self.card.dimension):
            kept = alive[first : first + len(ids)]
            first += len(ids)
            yield (ids, vectors) if kept.all() else (ids.filter(pa.array(kept)), vectors[kept])

    def metadata_of(self, part: Part) -> list[pa.Array]:
        """The metadata of one part as JSON texts, deleted rows left out."""
        column = read_metadata(self._file(part, "globals"))
        chunks: list[pa.Array] = (column.take(arrow_rows(_alive(part))) if part.deleted else column).chunks
        return chunks

    def ids_of(self, part: Part, kind: Literal["globals", "catalog"] = "globals") -> list[str]:
        """The ids of one part of this generation as one of its tables has them, deleted rows left out."""
        ids = read_ids(self._file(part, kind))
        return [ids[row] for row in _alive(part)] if part.deleted else ids

    def deleted_ids(self, part: Part) -> list[str]:
        """The ids of the deleted rows of one part; an id may be alive in another part."""
        ids = read_ids(self._file(part, "globals"))
        return [ids[row] for row in part.deleted]

    @once_property
    def vector_rows(self) -> VectorRows:
        """The global descriptors by row, in the order of the parts, read when they are wanted."""
        return VectorRows(self.directory, self._parts_with("globals"), self.card.dimension)

    @once_property
    def vector_ids(self) -> PartIds:
        """The id of every row of `vector_rows`, read when they are wanted."""
        parts = self._parts_with("globals")
        if parts == self._parts_with("catalog"):  # both tables of a part have the same ids, in the same order
            return self._catalog_ids
        return PartIds(self.directory, parts, "globals")

    @once_property
    def local_store(self) -> LocalStore:
        """Reads local descriptors by image id."""
        return LocalStore(lambda ids: self._places_in("locals", ids))

    @once_property
    def map_store(self) -> MapStore:
        """Reads feature maps by image id."""
        return MapStore(lambda ids: self._places_in("maps", ids))

    @once_property
    def keypoint_store(self) -> KeypointStore:
        """Reads keypoints by image id."""
        return KeypointStore(lambda ids: self._places_in("keypoints", ids))

    @property
    def keypoints_card(self) -> KeypointsCard | None:
        """What made the keypoints; None where not every image has its own: there are none, or they are being made."""
        made = self.manifest.keypoints
        return made.card if made and not self.without_keypoints() else None

    def without_keypoints(self) -> list[Part]:
        """The parts whose images have no keypoints."""
        return [part for part in self._parts_with("catalog") if "keypoints" not in part.files]

    def locals(self, ids: Sequence[str]) -> list[LocalDescriptors]:
        """Local descriptors in the order of `ids`. Raises RelookError for an id that has none."""
        return self.local_store.read(ids)

    def maps(self, ids: Sequence[str]) -> list[FeatureMaps]:
        """Feature maps in the order of `ids`, float16. Raises RelookError for an id that has none."""
        return self.map_store.read(ids)

    def keypoints(self, ids: Sequence[str]) -> list[Keypoints]:
        """Keypoints in the order of `ids`. Raises RelookError for an id whose part has none."""
        return self.keypoint_store.read(ids)

    def failures(self) -> list[str]:
        """The ids of what the last extraction could not read."""
        return read_failures(self.directory / failures_name(self.manifest))

    def failure_rows(self) -> list[tuple[str, str, str]]:
        """What the last extraction could not read: (id, path, reason) of each."""
        return read_failure_rows(self.directory / failures_name(self.manifest))

    def fitted(self) -> dict[str, FloatArray]:
        """The projections fitted on the gallery, by name; empty where there are none."""
        if self.manifest.fitted is None:
            return {}
        from safetensors.numpy import load_file

        path = self.directory / self.manifest.fitted.path
        try:
            arrays: dict[str, FloatArray] = load_file(path)
        except Exception as error:  # safetensors raises its own types, and OSError
            raise RelookError(f"{path}: cannot be read ({error})") from None
        return arrays

    def carried_describer(self) -> StoredDescriber | None:
        """The describer of its queries that the index carries; None: it carries none. RelookError: it is damaged."""
        return read_describer(self.directory, self.manifest.fingerprint)

    def verify(self, *, quick: bool = False) -> list[str]:
        """Check this generation; one line per file that is wrong.

        Every file must have its length and checksum, and the globals of a part the ids of its catalog, row by row.

        Args:
            quick: compare lengths alone, which takes no longer the larger the files are.
        """
        wrong = wrong_files(self.directory, (*self.manifest.files(), *self.manifest.earlier), quick)
        if not quick:
            try:
                self.carried_describer()
            except RelookError as error:
                wrong.append(f"{error}; remove model/describer-*, the next run makes them again")
        return wrong if wrong or quick else self.differing_ids()

    def differing_ids(self, parts: Collection[str] | None = None) -> list[str]:
        """One line per part, of those with these names or of all, whose globals have other ids than its catalog."""
        return differing_ids(
            self.directory, [part for part in self.manifest.parts if parts is None or part.name in parts]
        )

    def close(self) -> None:
        """Close the files of local descriptors, feature maps and keypoints; reading again opens them again."""
        for name in ("local_store", "map_store", "keypoint_store"):
            if name in self.__dict__:
                getattr(self, name).close()

    @once_property
    def _rows(self) -> ImageRows:
        return ImageRows(self._parts_with("catalog"), self._catalog_ids)

    @once_property
    def _catalog_ids(self) -> PartIds:
        return PartIds(self.directory, self._parts_with("catalog"), "catalog")

    @once_property
    def _record_lookup(self) -> RecordLookup:
        return RecordLookup(self.directory, self._rows)

    def _places_in(self, kind: PartKind, ids: Sequence[str]) -> list[tuple[Path, int] | None]:
        """For each image the file of this kind that it lies in and its row there; None where it has none."""
        files = self._files_of(kind)
        part_of, rows = self._rows.find(ids)
        places: list[tuple[Path, int] | None] = []
        for number, row in zip(part_of.tolist(), rows.tolist(), strict=True):
            file = files[number] if number >= 0 else None
            places.append(None if file is None else (file, row))
        return places

    def _files_of(self, kind: PartKind) -> list[Path | None]:
        """The file of a kind of every part that `ImageRows` numbers."""
        if kind not in self._kept_files:
            parts = self._rows.parts
            self._kept_files[kind] = [self._file(part, kind) if kind in part.files else None for part in parts]
        return self._kept_files[kind]

    @once_property
    def _kept_files(self) -> dict[PartKind, list[Path | None]]:
        return {}

    def _parts_with(self, kind: PartKind) -> list[Part]:
        return [part for part in self.manifest.parts if kind in part.files]

    def _file(self, part: Part, kind: PartKind) -> Path:
        return self.directory / part.files[kind].path


def _alive(part: Part) -> npt.NDArray[np.intp]:
    return np.setdiff1d(np.arange(part.rows), part.deleted)
