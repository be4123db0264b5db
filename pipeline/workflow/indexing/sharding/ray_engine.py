"""A divided extraction on a Ray cluster: its shards are the rows of a Ray Data pipeline; whoever began it joins them.

Two stages, each a pool of actors: some read and decode, the others hold the network, describe and write. Each row is a
shard of `planning.UNIT` photos. What a worker writes is the folder of that shard, as `shard_run` writes it: a worker
that dies loses the shards that it had in hand, and Ray gives them to another one. Ray moves rows and restarts actors;
what is committed is decided by the folders alone.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pipeline.config import Config
from pipeline.errors import RelookError, UsageError
from pipeline.files import object_path
from pipeline.stores import Index
from pipeline.stores.index.shards import PLAN, ShardPlan, Shards
from pipeline.workflow.bucket_index import shown_index
from pipeline.workflow.indexing.engine import SyncSummary
from pipeline.workflow.indexing.sharding.exchange import Exchange, exchange_of
from pipeline.workflow.indexing.sharding.joining import join_shards, unjoined_summary
from pipeline.workflow.indexing.sharding.shard_run import ShardRun, shard_describer
from pipeline.workflow.indexing.sharding.shard_settings import with_common
from pipeline.workflow.model_loading import read_options
from pipeline.workflow.progress import Reporter
from pipeline.workflow.stop import Stop

logger = logging.getLogger("relook")

# On a CPU the network takes about this share of the time of a photo; reading and decoding take the rest.
_NETWORK_SHARE = 0.6
# Ray Data keeps a part of the cluster for itself.
_OF_CPUS = 0.9


def extract_with_ray(config: Config, images: str, reporter: Reporter, stop: Stop) -> SyncSummary:
    """Describe a collection on the Ray cluster that `RAY_ADDRESS` names, or on this machine, and commit it.

    Run again, it goes on with the shards that are not done.

    Raises:
        UsageError: Ray is not installed, or the collection is divided by `--shard`.
        RelookError: as for `extract`, or a worker says so.
    """
    started = time.monotonic()
    ray = _ray()
    exchange = exchange_of(config.index)
    with exchange.named():
        plan = exchange.agree(config, images, None, reporter, stop)
        directory = exchange.directory()
        common = with_common(config, plan.settings, Shards(directory).directory / PLAN)
        index = config.index if object_path(config.index) else config.index.absolute()
        todo = [number for number, one in enumerate(exchange.states(plan), 1) if one.state != "done"]
        if todo:
            with _cluster(ray):
                _describe(ray, _Job(common.model_copy(update={"index": index})), plan, todo, reporter, stop)
        if stop.reason:
            return replace(unjoined_summary(directory, plan, stop.reason, started), index=shown_index(config))
    return replace(join_shards(config), seconds=round(time.monotonic() - started, 2))


@dataclass(frozen=True)
class _Job:
    """What every worker is given; it reads the rest from the place that all see."""

    config: Config

    @cached_property
    def exchange(self) -> Exchange:
        return exchange_of(self.config.index)

    @cached_property
    def index(self) -> Index:
        return Index(self.exchange.directory())

    @cached_property
    def shards(self) -> Shards:
        return Shards(self.index.directory)

    @cached_property
    def plan(self) -> ShardPlan:
        plan = self.shards.plan()
        assert plan is not None  # `directory` says so where there is none
        return plan


class Reader:
    """A stage: the number of a shard becomes its pictures, decoded and in batches. Reads on the threads of one process.

    Args:
        job: of the extraction.
    """

    def __init__(self, job: _Job) -> None:
        self._job = job

    @cached_property
    def _describer(self) -> Any:
        return shard_describer(self._job.index, self._job.config)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """`shard` to `shard`, `batches` (pickled) and `error`."""
        number = int(row["shard"])
        try:
            with self._job.exchange.named():
                batches = pickle.dumps(list(self._batches(number)), protocol=5)
        except RelookError as error:
            return {"shard": number, "batches": b"", "error": str(error)}
        return {"shard": number, "batches": batches, "error": ""}

    def _batches(self, number: int) -> Iterator[Any]:
        """Batches and failures, in the order in which `describe_changes` has them: what failed is tried once more."""
        from pipeline.catalog import Catalog
        from pipeline.describe import Failed, prepare_stream

        job, again = self._job, []
        records, reading = job.shards.todo(job.plan, number), read_options(job.config)
        catalog = Catalog(job.index.images_root, records)
        for batch in prepare_stream(self._describer, records, catalog.file, reading):
            if isinstance(batch, Failed) and batch.reason != reading.too_slow:
                again.append(batch.record)
            else:
                yield batch
        yield from prepare_stream(self._describer, again, catalog.file, reading)


class Worker:
    """A stage: pictures become the folder of their shard. Holds the network.

    Args:
        job: of the extraction.
    """

    def __init__(self, job: _Job) -> None:
        from pipeline.describe.cores import use_one_core

        self._job = job
        if job.config.device == "cpu":
            use_one_core()

    @cached_property
    def _describer(self) -> Any:
        return shard_describer(self._job.index, self._job.config)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """`shard`, `batches` and `error` to `shard`, `images` described, and `error`."""
        number = int(row["shard"])
        if row["error"]:
            return {"shard": number, "images": 0, "error": row["error"]}
        try:
            with self._job.exchange.named():
                return {"shard": number, "images": self._write(number, row["batches"]), "error": ""}
        except RelookError as error:
            return {"shard": number, "images": 0, "error": str(error)}

    def _write(self, number: int, batches: bytes) -> int:
        from pipeline.describe import Described, Failed
        from pipeline.workflow.indexing.extraction import Parts

        job, failures = self._job, []
        with job.exchange.writing(job.plan, number) as writer:
            run = ShardRun(writer, job.plan, job.index, job.shards.todo(job.plan, number))

            def described() -> Iterator[Described]:
                for batch in pickle.loads(batches):  # what a reader of this cluster has written
                    if isinstance(batch, Failed):
                        failures.append((batch.record.id, batch.record.path, batch.reason))
                        continue
                    found = self._describer.describe([item.prepared for item in batch])
                    for item, description in zip(batch, found, strict=True):
                        yield Described(item.record, description)

            if not run.done:
                Parts(writer, job.config.extract.part_size).write(described())
                run.end(failures)
            return len(run.records)


def _describe(ray: Any, job: _Job, plan: ShardPlan, todo: list[int], reporter: Reporter, stop: Stop) -> None:
    """Run the pipeline until every shard of `todo` is done, or `stop` has a reason."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    readers, workers, cpus, gpus = _pools(ray.cluster_resources(), job.config.device)
    pool, given = ray.data.ActorPoolStrategy, (job,)
    rows = ray.data.from_items([{"shard": number} for number in todo], override_num_blocks=len(todo))
    rows = rows.map(Reader, fn_constructor_args=given, compute=pool(size=readers), num_cpus=cpus)
    rows = rows.map(Worker, fn_constructor_args=given, compute=pool(size=workers), num_cpus=cpus, num_gpus=gpus)
    logger.info("%d shards on %d reading and %d describing workers", len(todo), readers, workers)
    left = sum(last - first for first, last in map(plan.rows, todo))
    with reporter.bar("describe", left, "images") as bar:
        for row in rows.iter_rows():
            if row["error"]:
                raise RelookError(row["error"])
            bar.advance(int(row["images"]))
            if stop.reason:
                return


def _pools(resources: Mapping[str, float], device: str) -> tuple[int, int, float, float]:
    """How many actors read and how many describe, and the CPUs of each and GPUs of the latter."""
    cpus = max(1, int(resources.get("CPU", 1)))
    if device == "cuda":
        workers, gpus = int(resources.get("GPU", 0)), 1.0
        if not workers:
            raise RelookError("device = cuda, but the Ray cluster has no GPU; use --device cpu")
    else:
        workers, gpus = max(1, round(_NETWORK_SHARE * cpus)), 0.0
    readers = max(1, cpus - workers)
    return readers, workers, min(1.0, _OF_CPUS * cpus / (readers + workers)), gpus


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError:
        raise UsageError("--engine ray: Ray is not installed; run: pip install 'relook[ray]'") from None
    return ray


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """The cluster that this process is connected to, else one that ends with the block."""
    ours = not ray.is_initialized()
    if ours:
        ray.init(logging_level=logging.WARNING, log_to_driver=False)
    try:
        yield
    finally:
        if ours:
            ray.shutdown()
