"""How far the shards of an extraction are: what the join and `info` say of them.

Reads the manifest of each shard's folder and nothing else, so that thousands of them take seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import RelookError
from pipeline.stores.index.manifest import NAME, read_manifest
from pipeline.stores.index.shards import ShardPlan, Shards


@dataclass(frozen=True)
class ShardState:
    """One shard.

    Attributes:
        shard: "K/N".
        images: that it has to describe.
        described: of these, how many are committed; those that cannot be read never are.
        state: "done", "begun", "not begun" or "damaged".
    """

    shard: str
    images: int
    described: int
    state: str

    def __str__(self) -> str:
        done = f"{self.described} of {self.images} images" if self.state == "begun" else self.state
        return f"{self.shard} ({done})"


def shard_states(shards: Shards, plan: ShardPlan) -> list[ShardState]:
    """The state of every shard, in order."""
    return [shard_state(shards, plan, number) for number in range(1, plan.shards + 1)]


def shard_state(shards: Shards, plan: ShardPlan, number: int) -> ShardState:
    """The state of one shard, from 1."""
    first, last = plan.rows(number)
    name, folder = f"{number}/{plan.shards}", shards.folder(plan, number)
    if not (folder / NAME).exists():
        return ShardState(name, last - first, 0, "not begun")
    try:
        manifest = read_manifest(folder)
    except RelookError:
        return ShardState(name, last - first, 0, "damaged")
    return ShardState(name, last - first, manifest.counts["images"], "done" if manifest.complete else "begun")
