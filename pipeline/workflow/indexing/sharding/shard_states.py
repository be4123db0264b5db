"""How far the shards of an extraction are: what the join and `info` say of them.

Reads the manifest of each shard's folder and nothing else, so that thousands of them take seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.errors import RelookError
from pipeline.stores.index.manifest import NAME, IndexManifest, read_manifest
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
    folder = shards.folder(plan, number)
    try:
        return state_in(plan, number, read_manifest(folder) if (folder / NAME).exists() else None)
    except RelookError:
        return replace(state_in(plan, number, None), state="damaged")


def state_in(plan: ShardPlan, number: int, manifest: IndexManifest | None) -> ShardState:
    """The state of one shard, from 1, by the manifest of its folder; None: it has none."""
    first, last = plan.rows(number)
    state = "not begun" if manifest is None else "done" if manifest.complete else "begun"
    described = 0 if manifest is None else manifest.counts["images"]
    return ShardState(f"{number}/{plan.shards}", last - first, described, state)
