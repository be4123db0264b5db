"""The index directory, written: parts are added, then the manifest is swapped.

Used by the stages that change an index. One writer at a time holds the lock; a process killed at any instant leaves the
last committed generation whole, and the next writer removes the files that it had not committed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, get_args

from pipeline.errors import RelookError
from pipeline.files import Place, refuse_bucket
from pipeline.stores.index.carried_describer import write_describer
from pipeline.stores.index.commits import Commits
from pipeline.stores.index.directory import Index
from pipeline.stores.index.keypoint_store import EncodedKeypoints, nothing_encoded
from pipeline.stores.index.lock import IndexLock
from pipeline.stores.index.manifest import IndexManifest, KeypointsMade, Part, PartKind, TableFormat, failures_name
from pipeline.stores.index.part_files import PartFiles
from pipeline.stores.index.retention import Collected, collect, collect_local_stores
from pipeline.stores.index.rows import Places, places_of, revised, without, without_kind
from pipeline.stores.index.run_reports import write_failures, write_report
from pipeline.stores.index.tables import read_ids
from pipeline.types import Description, FloatArray, ImageRecord, ModelCard


class IndexWriter:
    """The one writer of an index directory; use it as a context manager.

    Args:
        directory: the index; it is made if it is missing.

    Raises:
        LockedError: another process is writing to it.
        RelookError: it cannot be written, or an index is there and damaged.
    """

    def __init__(self, directory: Path) -> None:
        refuse_bucket(directory)
        self.directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RelookError(f"{directory}: cannot be made ({error.strerror})") from None
        self._lock = IndexLock(directory)
        self._commits = Commits(directory, self._lock)
        self._places: Places | None = None
        self._collected = Collected(0, 0)
        self._opened: dict[str, Index] = {}

    def __enter__(self) -> IndexWriter:
        self._lock.acquire()
        try:
            self._commits.open()
            self._collected = collect(self.directory, self._commits.head, self._commits.staged)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    @property
    def index(self) -> Index | None:
        """The generation that was committed last: during a change of model that of the new one; None before the first.

        Until `begin`, it is the one that readers see. The object stays the same until the next commit.
        """
        commits = self._commits
        return self._index_of("current", commits.staged if commits.staging else commits.head)

    @property
    def staged(self) -> Index | None:
        """What a change of model has made so far, or None where none is under way."""
        return self._index_of("staged", self._commits.staged)

    @property
    def changing_model(self) -> bool:
        """Whether what is committed now becomes visible to readers in `complete` only."""
        return self._commits.staging

    def begin(
        self,
        card: ModelCard,
        fitted: Mapping[str, FloatArray],
        images_root: Place,
        tables: TableFormat,
        asked: Mapping[str, Any] | None = None,
        *,
        change_model: bool = False,
    ) -> None:
        """Commit an empty generation for a model, or continue the index that it made.

        Args:
            card: the model that all descriptors of this index come from.
            fitted: its projections, by name.
            images_root: the folder, or prefix in a bucket, that the records' relative paths start from.
            tables: how catalog and globals are written.
            asked: the request that the model follows from, in plain JSON values (`requested_model`).
            change_model: where the index is of another model, begin or resume one of this model beside it, which takes
                its place in `complete`.

        Raises:
            RelookError: the index was made by another model, or has tables of the other format.
        """
        self._places = None
        self._commits.begin(card, fitted, images_root, tables, asked, change_model)

    def add(self, records: Sequence[ImageRecord], descriptions: Sequence[Description]) -> None:
        """Write one part and commit it; rows of the same ids in earlier parts are deleted by the same commit.

        Raises:
            RelookError: duplicate ids, a vector of another dimension or not finite, local descriptors, maps or
                keypoints of some images only.
        """
        if records:
            part = PartFiles(self.directory, self._current).write(records, descriptions)
            self._commit_part(part, [record.id for record in records])

    def carry_describer(self, graph: bytes, spec: Mapping[str, Any]) -> None:
        """Write the describer that searches of this model use; see `carried_describer.py`."""
        write_describer(self.directory, self._current.fingerprint, graph, spec)

    def add_vectors(self, ids: Sequence[str], vectors: FloatArray, metadata: Sequence[Mapping[str, str]]) -> None:
        """Write and commit a part of global descriptors alone; earlier rows of the same ids are deleted."""
        if ids:
            self._commit_part(PartFiles(self.directory, self._current).write_vectors(ids, vectors, metadata), ids)

    def use_keypoints(self, made: KeypointsMade | None) -> None:
        """Commit what makes the keypoints from here on; those that something else made leave the parts.

        Descriptions that are added have keypoints exactly where `made` is not None. `Index.without_keypoints` has the
        parts that `add_keypoints` should follow for.
        """
        if made == self._current.keypoints:
            return
        parts, before = self._current.parts, self._current.keypoints
        if not (made and before and made.card == before.card and made.stored == before.stored):
            parts = tuple(without_kind(part, "keypoints") for part in parts)
        whole = parts == self._current.parts and (made is None or all("keypoints" in part.files for part in parts))
        self._commits.commit(keypoints=made, parts=parts, complete=whole and self._current.complete)

    def add_keypoints(self, part: Part, items: Mapping[str, EncodedKeypoints]) -> None:
        """Commit the keypoints of one part's images, by id; the part stays as it is otherwise.

        Raises:
            RelookError: an image that is not deleted has none.
        """
        made = self._current.keypoints
        assert made is not None
        ids = read_ids(self.directory / part.files["catalog"].path)
        dead, nothing = set(part.deleted), nothing_encoded(made.dimension, made.stored)
        missing = [name for row, name in enumerate(ids) if row not in dead and name not in items]
        if missing:
            raise RelookError(f"{self.directory}: no keypoints of {missing[0]!r}, which is in {part.name}")
        rows = [nothing if row in dead else items[name] for row, name in enumerate(ids)]
        file = PartFiles(self.directory, self._current).write_keypoints(ids, rows)
        whole = part.model_copy(update={"files": {**part.files, "keypoints": file}})
        self._commits.commit(parts=tuple(whole if one.name == part.name else one for one in self._current.parts))

    def delete(self, ids: Iterable[str]) -> int:
        """Commit tombstones for these ids; returns how many rows they were."""
        known = set(ids) & self._living().keys()
        if known:
            self._commits.commit(parts=without(self._current, self._living(), known))
            for name in known:
                del self._living()[name]
        return len(known)

    def revise(self, records: Mapping[str, ImageRecord], gone: Iterable[str] = ()) -> None:
        """Commit new ids, paths, labels, splits or times of images whose descriptors stay.

        Args:
            records: the new records, by the id that the image had so far.
            gone: ids to delete in the same commit.

        Raises:
            RelookError: two images would have one id.
        """
        places = self._living()
        gone = set(gone) & places.keys()
        if records or gone:
            self._commits.commit(parts=revised(self.directory, self._current, places, records, gone))
            self._places = None

    def adopt(
        self,
        others: Sequence[Index],
        records: Mapping[str, ImageRecord],
        gone: Iterable[str],
        kinds: Collection[PartKind] = get_args(PartKind),
    ) -> None:
        """Commit, in one commit, the parts of other index directories of this model, in their order.

        Rows of the same ids are deleted. The files are linked, so the others stay as they are.

        Args:
            others: their parts have the kinds of files that this index has.
            records: new records of images whose descriptors stay, as in `revise`.
            gone: ids to delete.
            kinds: of the files that the others have on this disk; see `PartFiles.adopt`.

        Raises:
            RelookError: a file is missing or cannot be linked, or two images would have one id.
        """
        current, places = self._current, self._living()
        parts, ids = [], set[str]()
        for other in others:
            for part in other.manifest.parts:
                PartFiles(self.directory, current).adopt(other.directory, part, kinds)
                parts.append(part)
                ids.update(other.ids_of(part, "catalog"))
        stay = revised(self.directory, current, places, records, set(gone) & places.keys())
        kept = current.model_copy(update={"parts": stay})
        places = places_of(self.directory, kept)
        self._commits.commit(parts=(*without(kept, places, ids & places.keys()), *parts))
        self._places = None

    def fold(self, group: Sequence[Part], records: Sequence[ImageRecord], descriptions: Sequence[Description]) -> None:
        """Commit one part in the place of several neighbours: their living rows, in their order."""
        whole = PartFiles(self.directory, self._current).write(records, descriptions)
        names = {part.name for part in group}
        parts = [whole if part.name == group[0].name else part for part in self._current.parts]
        kept = tuple(part for part in parts if part.name not in names)
        # The rows are the same: the generation replaces the one before, and a rollback never returns to that.
        self._commits.commit(parts=kept, complete=self._current.complete)
        self._places = None

    def complete(self, keep: int) -> None:
        """End a run: a rollback can return to its generation, and after a change of model readers see it.

        Args:
            keep: how many generations a rollback can return to from now on, this one included; at least 1.
        """
        self._commits.complete(keep)

    def rollback(self) -> None:
        """Commit the generation that the last run but this one ended with.

        Raises:
            RelookError: none is kept, or one of its files is damaged.
        """
        self._commits.rollback()
        self._places = None

    def collect(self, keep: int) -> Collected:
        """Forget all but `keep` generations (the committed one included), and remove what none of them needs.

        That is files that no manifest names, and local ann stores of models that no kept generation has.

        Returns:
            What was removed since the index was opened.
        """
        self._commits.forget(keep)
        manifests = self._commits.head, self._commits.staged
        removed = [self._collected, collect(self.directory, *manifests)]
        removed.append(collect_local_stores(self.directory, *manifests))
        return Collected(sum(one.files for one in removed), sum(one.bytes for one in removed))

    def write_failures(self, failures: Sequence[tuple[str, str, str]]) -> None:
        """Replace the list of images that could not be read: (id, path, reason) each."""
        write_failures(self.directory / failures_name(self._current), failures)

    def write_report(self, verb: str, report: Mapping[str, Any], *, changed: bool = True) -> None:
        """Keep the report of a run as runs/latest.json and, where it `changed` the index, as a file of its own."""
        write_report(self.directory, verb, report, changed=changed)

    @property
    def _current(self) -> IndexManifest:
        return self._commits.current

    def _commit_part(self, part: Part, ids: Sequence[str]) -> None:
        places = self._living()
        self._commits.commit(parts=(*without(self._current, places, places.keys() & set(ids)), part))
        places |= {name: (part.name, row) for row, name in enumerate(ids)}

    def _index_of(self, key: str, manifest: IndexManifest | None) -> Index | None:
        """The opened generation of a manifest, the same object as long as the manifest is."""
        if manifest is None:
            return None
        if key not in self._opened or self._opened[key].manifest is not manifest:
            self._opened[key] = Index(self.directory, manifest)
        return self._opened[key]

    def _living(self) -> Places:
        """Where every image is: read once, so that a commit looks at its own ids."""
        if self._places is None:
            self._places = places_of(self.directory, self._current)
        return self._places
