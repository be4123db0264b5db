"""One shard of a divided extraction: its photos described into a folder of its own.

The folder is an index directory, so a shard that is killed goes on where it was, and one that is started twice at once
is refused by its lock. It goes on with whole blocks, so its batches, and with them the last bits of its descriptors,
are those of a shard that was never killed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.catalog import Catalog
from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.files import Place
from pipeline.stores import Index, IndexWriter
from pipeline.stores.index.shards import PLAN, ShardPlan, Shards
from pipeline.types import FittableDescriber, ImageRecord
from pipeline.workflow.bucket_index import shown_index
from pipeline.workflow.indexing.changes import Changes
from pipeline.workflow.indexing.keypoints_choice import load_requested, requested_keypoints
from pipeline.workflow.indexing.sharding.exchange import exchange_of
from pipeline.workflow.indexing.sharding.shard_settings import with_common
from pipeline.workflow.progress import Reporter
from pipeline.workflow.stop import Stop

_REMEDY = "install the same versions of packages and weights on each"


@dataclass(frozen=True)
class ShardSummary:
    """What a run of one shard did; counts are of images.

    Attributes:
        outcome: "done", or "stopped" when a signal ended it early.
        stopped: the name of the signal; "" where there was none.
        index, generation: the index and its committed generation, which shards do not change.
        shard: "K/N".
        images: of the shard.
        described: in this run.
        failed: could not be read in this run.
        seconds: of the run.
    """

    outcome: str
    stopped: str
    index: str
    generation: int
    shard: str
    images: int
    described: int
    failed: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return asdict(self)


def run_shard(config: Config, images: str, number: int, count: int, reporter: Reporter, stop: Stop) -> ShardSummary:
    """Describe shard `number` of `count`, which nothing else waits for but `join_shards`.

    Raises:
        UsageError: other photos, another number of shards or other settings than those of the shards before.
        LockedError: the same shard is running.
        RelookError: as for `extract`; or none of its photos is there.
    """
    started, exchange = time.monotonic(), exchange_of(config.index)
    with exchange.named():
        plan = exchange.agree(config, images, count, reporter, stop)
        index = Index(exchange.directory())
        shards = Shards(index.directory)
        common = with_common(config, plan.settings, shards.directory / PLAN)
        with exchange.writing(plan, number) as writer:
            run = ShardRun(writer, plan, index, shards.todo(plan, number))
            described, failed = run.describe(common, reporter, stop)
    return ShardSummary(
        outcome="stopped" if stop.reason else "done",
        stopped=stop.reason,
        index=shown_index(config),
        generation=index.manifest.generation,
        shard=f"{number}/{count}",
        images=len(run.records),
        described=described,
        failed=failed,
        seconds=round(time.monotonic() - started, 2),
    )


class ShardRun:
    """Fills the folder of a shard.

    Args:
        writer: of the folder.
        plan: of all shards.
        index: what they will be joined into.
        records: of the photos of this shard.

    Attributes:
        catalog: of these photos.
    """

    def __init__(self, writer: IndexWriter, plan: ShardPlan, index: Index, records: Sequence[ImageRecord]) -> None:
        self._writer, self._plan, self._index, self.records = writer, plan, index, records
        made = index.manifest
        self.catalog = Catalog(index.images_root, records)
        writer.begin(made.card, {}, index.images_root, made.tables, made.asked)
        writer.use_keypoints(made.keypoints)

    def describe(self, config: Config, reporter: Reporter, stop: Stop) -> tuple[int, int]:
        """Describe what the folder does not have, until `stop` has a reason; how many were, and how many failed."""
        from pipeline.workflow.indexing.extraction import describe_changes

        if self.done:
            return 0, 0
        added, failures = 0, list[tuple[str, str, str]]()
        if self.records:
            changes = Changes(self.catalog, self._unfinished())
            describer = shard_describer(self._index, config)
            outcome = describe_changes(self._writer, describer, changes, config, reporter, stop)
            added, failures = outcome.added, outcome.failures
        if not stop.reason:
            self.end(failures)
        return added, len(failures)

    @property
    def done(self) -> bool:
        """Whether the folder has all that it will have."""
        return self._shard.manifest.complete

    def end(self, failures: Sequence[tuple[str, str, str]]) -> None:
        """The shard is done, but for photos that cannot be read: (id, path, reason) of each.

        Raises:
            RelookError: that is all of them, and none is there: the shard is not done.
        """
        if failures and len(failures) == len(self.records) and not any(file.exists() for file in self._files()):
            _, path, reason = failures[0]
            raise RelookError(f"none of the {len(self.records)} images of this shard is here, such as {path}: {reason}")
        self._writer.write_failures(failures)
        self._writer.complete(1)

    @property
    def _shard(self) -> Index:
        shard = self._writer.index
        assert shard is not None
        return shard

    def _files(self) -> Iterator[Place]:
        return map(self.catalog.file, self.records)

    def _unfinished(self) -> Any:
        """[N] bool: the photos of blocks that are not in the folder as a whole."""
        known = self._shard.has([record.id for record in self.records])
        blocks = np.arange(len(known)) // self._plan.block
        return np.isin(blocks, np.unique(blocks[~known]))


def shard_describer(index: Index, config: Config) -> FittableDescriber:
    """The describer of every shard: with the projections and the keypoints of the index.

    Raises:
        RelookError: what is installed here makes another model, or other keypoints, of the same settings.
    """
    from pipeline.describe import with_keypoints
    from pipeline.workflow.model_loading import new_describer

    describer = new_describer(config)
    describer.use_fitted(index.fitted())
    if describer.card.fingerprint != index.card.fingerprint:
        differences = "; ".join(describer.card.differences(index.card)[:3])
        raise RelookError(
            f"{index.directory}: this machine makes another model of the same settings ({differences}); {_REMEDY}"
        )
    request = requested_keypoints(config.describe.keypoints, index.manifest.keypoints)
    if request is None:
        return describer
    extractor = load_requested(request, config)
    if request.made_by(extractor) != index.manifest.keypoints:
        raise RelookError(f"{index.directory}: this machine makes other keypoints of the same settings; {_REMEDY}")
    return with_keypoints(describer, extractor)
