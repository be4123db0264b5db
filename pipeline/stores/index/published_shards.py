"""`shards/` of an index in a bucket: the plan that machines agree on there, and what each of them has published.

The bucket's form of `shards.Shards`. `plan.json` is written on a condition, so of two machines that plan at once one
wins; a join leaves a note in its place that names the run. Parts of shards lie where those of the index do, under
names that no other part has: a join moves none of them.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from pipeline.errors import RelookError
from pipeline.files import ObjectPath, write_bytes, write_errors
from pipeline.files.conditional_put import ConditionalObject
from pipeline.stores.index.manifest import NAME, IndexManifest, PartKind
from pipeline.stores.index.published import AT_ONCE, PublishedIndex
from pipeline.stores.index.shards import FOLDER, PLAN, ShardPlan, Shards, parse_plan

_JOINED = "joined"


class PublishedShards:
    """The shards of an index in a bucket.

    Args:
        place: the prefix of the index.
    """

    def __init__(self, place: ObjectPath) -> None:
        self.place = place / FOLDER
        self._index = place
        self._tables = PublishedIndex(self.place)

    def agreed(self) -> tuple[ShardPlan | None, str | None]:
        """The plan, None where there is none; and the store's tag of what is there, None where nothing is.

        Raises RelookError where the plan is damaged, or the store cannot be used.
        """
        found = self._plan.read()
        if found is None:
            return None, None
        return self._parsed(found[0]), found[1]

    def plan(self) -> ShardPlan | None:
        """The plan; None: there is none. Raises as `agreed` does."""
        try:
            return self._parsed((self.place / PLAN).read())
        except FileNotFoundError:
            return None

    def publish(self, directory: Path, plan: ShardPlan, tag: str | None) -> None:
        """Make the plan of an index directory the one of all machines.

        Args:
            directory: where `Shards` has the plan and its tables.
            plan: the plan.
            tag: of what it replaces, as `agreed` said.

        Raises:
            LockedError: another machine has agreed on one meanwhile.
            RelookError: the store refuses.
        """
        self._tables.upload_files(directory / FOLDER, plan.files())
        self._plan.replace(plan.content, tag)

    def fetch(self, directory: Path, plan: ShardPlan) -> None:
        """Bring the plan and its tables to an index directory. Raises RelookError where a table is damaged."""
        shards = Shards(directory)
        with suppress(RelookError):
            if shards.plan() == plan:
                return
        shards.remove()  # of an earlier run
        self._tables.fetch_files(shards.directory, plan.files())
        with write_errors(shards.directory / PLAN):
            write_bytes(shards.directory / PLAN, plan.content)

    def shard(self, plan: ShardPlan, number: int) -> PublishedIndex:
        """What shard `number`, from 1, has published."""
        return PublishedIndex(self.place / plan.run / f"{number}-of-{plan.shards}", parts=self._index)

    def states(self, plan: ShardPlan) -> dict[int, IndexManifest | None]:
        """What each shard, from 1, has published; None: nothing. Raises RelookError where it is damaged."""
        begun = self._begun(plan)
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bucket") as pool:
            found = dict(zip(begun, pool.map(lambda number: self.shard(plan, number).manifest(), begun), strict=True))
        return {number: found.get(number) for number in range(1, plan.shards + 1)}

    def fetch_shards(self, directory: Path, plan: ShardPlan, kinds: tuple[PartKind, ...]) -> None:
        """Bring what shards have published to their folders below an index directory. Raises as `fetch` does."""
        folders = Shards(directory)
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bucket") as pool:
            list(
                pool.map(
                    lambda number: self.shard(plan, number).fetch(folders.folder(plan, number), kinds=kinds),
                    self._begun(plan),
                )
            )

    def forget(self, plan: ShardPlan, tag: str | None) -> None:
        """There is nothing to join any more; the note names the run, so that no two of them have one tag."""
        self._plan.replace(json.dumps({_JOINED: plan.run}).encode(), tag)

    def _parsed(self, content: bytes) -> ShardPlan | None:
        with suppress(ValueError, TypeError):
            if _JOINED in json.loads(content):
                return None
        return parse_plan(content, str(self.place / PLAN))

    def _begun(self, plan: ShardPlan) -> list[int]:
        """The shards that have published anything, by one listing."""
        with suppress(FileNotFoundError):
            there = {path for path, _ in (self.place / plan.run).below()}
            return [number for number in range(1, plan.shards + 1) if f"{number}-of-{plan.shards}/{NAME}" in there]
        return []

    @cached_property
    def _plan(self) -> ConditionalObject:
        return ConditionalObject(self.place / PLAN)
