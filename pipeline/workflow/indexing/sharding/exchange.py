"""How the machines of a divided extraction see one another's work: through a directory, or through a bucket.

Between the shards and the place of the index. A directory is seen by all as it is. Of an index in a bucket each machine
has a copy of what it needs: a shard the model and its photos, a join the catalogs; vectors and local descriptors go
from the machine that made them to the bucket, and nowhere else.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol, get_args

from pipeline.config import Config
from pipeline.errors import LockedError, RelookError
from pipeline.files import ObjectPath, object_path, write_errors
from pipeline.stores import Index, IndexWriter
from pipeline.stores.index.manifest import NAME, IndexManifest, PartKind, read_manifest
from pipeline.stores.index.published import PublishedIndex, Version, published_form
from pipeline.stores.index.published_shards import PublishedShards
from pipeline.stores.index.shards import FOLDER, PLAN, ShardPlan, Shards
from pipeline.workflow.bucket_index import copy_folder, waiting_lock
from pipeline.workflow.indexing.sharding.planning import agree
from pipeline.workflow.indexing.sharding.shard_states import ShardState, shard_states, state_in
from pipeline.workflow.progress import Reporter
from pipeline.workflow.stop import Stop

logger = logging.getLogger("relook")

_CATALOG: tuple[PartKind, ...] = ("catalog",)


class Exchange(Protocol):
    """The place of an index, as its shards use it.

    Attributes:
        kinds: of the files of shards that a join has on this disk.
    """

    kinds: tuple[PartKind, ...]

    def agree(self, config: Config, images: str, shards: int | None, reporter: Reporter, stop: Stop) -> ShardPlan:
        """See `planning.agree`; `directory` has the plan afterwards."""

    def directory(self) -> Path:
        """The index on this disk: itself, or a copy of its model and of the plan that was agreed on.

        Raises RelookError where there is no plan.
        """

    def writing(self, plan: ShardPlan, number: int) -> AbstractContextManager[IndexWriter]:
        """The folder of a shard, which the other machines see when the block ends without an error."""

    def plan(self) -> ShardPlan | None:
        """What was agreed on; None: nothing was, or it was joined."""

    def states(self, plan: ShardPlan) -> list[ShardState]:
        """How far each shard is, in order."""

    def joining(self) -> AbstractContextManager[Path]:
        """The index on this disk with all shards that there are; what is committed to it all machines see at the end.

        Raises LockedError where another run has published meanwhile.
        """

    def named(self) -> AbstractContextManager[None]:
        """While the block runs, errors name the index as commands do, not its copy."""


def exchange_of(index: Path) -> Exchange:
    """The one of an index: a directory, or the URL of a bucket."""
    place = object_path(index)
    return InDirectory(index) if place is None else InBucket(place)


class InDirectory:
    """An index directory that all machines see."""

    kinds = get_args(PartKind)

    def __init__(self, index: Path) -> None:
        self._index = index

    def agree(self, config: Config, images: str, shards: int | None, reporter: Reporter, stop: Stop) -> ShardPlan:
        """See `Exchange`."""
        return agree(config, images, shards, reporter, stop)

    def directory(self) -> Path:
        """See `Exchange`."""
        if Shards(self._index).plan() is None:
            raise RelookError(f"{self._index / FOLDER}: there is no plan, which all machines have to see")
        return self._index

    def writing(self, plan: ShardPlan, number: int) -> AbstractContextManager[IndexWriter]:
        """See `Exchange`."""
        return IndexWriter(Shards(self._index).folder(plan, number))

    def plan(self) -> ShardPlan | None:
        """See `Exchange`."""
        return Shards(self._index).plan()

    def states(self, plan: ShardPlan) -> list[ShardState]:
        """See `Exchange`."""
        return shard_states(Shards(self._index), plan)

    def joining(self) -> AbstractContextManager[Path]:
        """See `Exchange`."""
        return nullcontext(self._index)

    def named(self) -> AbstractContextManager[None]:
        """See `Exchange`."""
        return nullcontext()


class InBucket:
    """An index below a prefix of a bucket; the shards of this machine share one copy, a join has one of its own."""

    kinds = _CATALOG

    def __init__(self, place: ObjectPath) -> None:
        self._place = place
        self._copy = copy_folder(place, "shards")
        self._index, self._shards = PublishedIndex(place), PublishedShards(place)

    def agree(self, config: Config, images: str, shards: int | None, reporter: Reporter, stop: Stop) -> ShardPlan:
        """See `Exchange`. Of machines that plan at once, the first that publishes decides; the others drop theirs."""
        config = config.model_copy(update={"index": self._copy})
        while True:
            with waiting_lock(self._copy, self._place, stop):
                plan, tag = self._shards.agreed()
                if plan is None:
                    plan = self._plan(config, images, shards, reporter, stop, tag)
                if plan is not None:
                    self._fetch(plan)
                    return agree(config, images, shards, reporter, stop)

    def directory(self) -> Path:
        """See `Exchange`."""
        with waiting_lock(self._copy, self._place):
            plan, _ = self._shards.agreed()
            if plan is None:
                raise RelookError(f"{self._shards.place}: there is no plan; another process has joined or removed it")
            self._fetch(plan)
        return self._copy

    @contextmanager
    def writing(self, plan: ShardPlan, number: int) -> Iterator[IndexWriter]:
        """See `Exchange`. It begins with whichever has more: what was published, or what an earlier run did here."""
        folder, there = Shards(self._copy).folder(plan, number), self._shards.shard(plan, number)
        with waiting_lock(self._copy, self._place):
            version = there.version()
            if version is not None and _progress(there.parsed(version.content)) > _progress(_committed(folder)):
                there.fetch(folder, version.content, _CATALOG)
        with IndexWriter(folder) as writer:
            yield writer
            _publish(there, folder, version)
            done = read_manifest(folder).complete
        if done:
            shutil.rmtree(folder, ignore_errors=True)  # the bucket has it

    def plan(self) -> ShardPlan | None:
        """See `Exchange`."""
        return self._shards.plan()

    def states(self, plan: ShardPlan) -> list[ShardState]:
        """See `Exchange`."""
        return [state_in(plan, number, manifest) for number, manifest in self._shards.states(plan).items()]

    @contextmanager
    def joining(self) -> Iterator[Path]:
        """See `Exchange`."""
        copy = copy_folder(self._place, "join")
        with waiting_lock(copy, self._place):
            plan, tag = self._shards.agreed()
            version = self._index.version()
            with write_errors(copy):
                (copy / FOLDER / PLAN).unlink(missing_ok=True)
            if plan is None or version is None:
                yield copy
                return
            self._index.fetch(copy, version.content, _CATALOG)
            self._shards.fetch(copy, plan)
            self._shards.fetch_shards(copy, plan, _CATALOG)
            self._fetch_moved(copy, plan)
            yield copy
            _publish(self._index, copy, version)
            self._shards.forget(plan, tag)

    @contextmanager
    def named(self) -> Iterator[None]:
        """See `Exchange`."""
        try:
            yield
        except RelookError as error:
            text = str(error)
            for use in ("shards", "join"):
                text = text.replace(str(copy_folder(self._place, use)), self._place.url)
            error.args = (text, *error.args[1:])
            raise

    def _plan(
        self, config: Config, images: str, shards: int | None, reporter: Reporter, stop: Stop, tag: str | None
    ) -> ShardPlan | None:
        """Plan here; None: another machine was first."""
        version = self._index.version()
        with write_errors(self._copy):
            shutil.rmtree(self._copy / FOLDER if version else self._copy, ignore_errors=True)
        if version is not None:
            self._index.fetch(self._copy, version.content, _CATALOG)
        plan = agree(config, images, shards, reporter, stop)
        try:
            _publish(self._index, self._copy, version)
            self._shards.publish(self._copy, plan, tag)
        except LockedError:
            logger.info("%s: another machine has divided the photos meanwhile", self._place)
            return None
        return plan

    def _fetch(self, plan: ShardPlan) -> None:
        """What shards need: the model, and the plan; the catalogs, too, where the index may have changed since."""
        content = self._index.content()
        manifest = self._index.fetch(self._copy, content, ())
        if manifest.generation != plan.generation:
            self._index.fetch(self._copy, content, _CATALOG)
        self._shards.fetch(self._copy, plan)

    def _fetch_moved(self, copy: Path, plan: ShardPlan) -> None:
        """The vectors of parts in which an image gets another id, path or label: its row is written again."""
        moved = Shards(copy).revised(plan).keys()
        if moved:
            index = Index(copy)
            parts = [part for part in index.manifest.parts if not moved.isdisjoint(index.ids_of(part, "catalog"))]
            self._index.fetch_files(copy, [part.files["globals"] for part in parts])


def _publish(there: PublishedIndex, directory: Path, version: Version | None) -> None:
    manifest = read_manifest(directory)
    if version is None or version.content != published_form(manifest):
        there.publish(directory, manifest, version)


def _committed(folder: Path) -> IndexManifest | None:
    return read_manifest(folder) if (folder / NAME).exists() else None


def _progress(manifest: IndexManifest | None) -> tuple[bool, int]:
    return (False, -1) if manifest is None else (manifest.complete, manifest.counts.get("images", 0))
