"""Photos to parts of an index: described, collected, written, counted.

The engine imports it where there is something to describe. Decoding, the network and the writing of parts
overlap; each part is a commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

from pipeline.config import Config
from pipeline.describe import Described, Failed, describe_stream
from pipeline.stores import IndexWriter
from pipeline.types import Description, FittableDescriber, ImageRecord
from pipeline.workflow.indexing.changes import Changes
from pipeline.workflow.model_loading import read_options
from pipeline.workflow.progress import Reporter
from pipeline.workflow.stop import Stop

if TYPE_CHECKING:
    from pipeline.workflow.indexing.fitting import FitSample

# A part is closed when its descriptors take so much memory, however few photos it has.
_PART_BYTES = 256 << 20


@dataclass(frozen=True)
class Outcome:
    """What describing did: images that are new, images that are known with another content, and (id, path, reason) of
    those that could not be read."""

    added: int
    changed: int
    failures: list[tuple[str, str, str]]


def describe_changes(
    writer: IndexWriter,
    describer: FittableDescriber,
    changes: Changes,
    config: Config,
    reporter: Reporter,
    stop: Stop,
    sample: FitSample | None = None,
) -> Outcome:
    """Describe and commit what is fresh, until `stop` has a reason.

    Photos of `sample` come first, without passing the network again. What could not be read is tried once more at the
    end: a file that was being written may be complete by then.
    """
    parts = Parts(writer, config.extract.part_size)
    failed: list[Failed] = []
    known = writer.index.records.keys() if writer.index else set()
    counts = {True: 0, False: 0}
    with reporter.bar("describe", int(changes.fresh.sum()), "images") as bar:

        def stream(items: Iterable[Described | Failed]) -> Iterator[Described]:
            for item in items:
                bar.advance(1, f"{len(failed)} failed" if isinstance(item, Failed) else "")
                if isinstance(item, Failed):
                    failed.append(item)
                    continue
                counts[item.record.id in known] += 1
                yield item

        def network(records: Iterable[ImageRecord]) -> Iterator[Described | Failed]:
            return describe_stream(describer, stop.until(records), changes.catalog.file, read_options(config))

        if sample is None or not changes.fresh[sample.rows].all():
            parts.write(stream(network(changes.todo())))
        else:
            rest = islice(changes.todo(sample.rows), len(sample.rows), None)
            parts.write(stream(chain(stop.until(sample.describe(describer)), network(rest))))
        # A photo that took too long would take as long again.
        again = [item.record for item in failed if item.reason != read_options(config).too_slow]
        if not stop.reason:
            failed[:] = [item for item in failed if item.reason == read_options(config).too_slow]
            parts.write(stream(network(again)))
    failures = [(item.record.id, item.record.path, item.reason) for item in failed]
    return Outcome(counts[False], counts[True], failures)


class Parts:
    """Collects what was described into parts, and has one thread write them while the next are computed."""

    def __init__(self, writer: IndexWriter, part_size: int) -> None:
        self._writer, self._part_size = writer, part_size

    def write(self, items: Iterator[Described]) -> None:
        """When it returns, all items are committed."""
        part: list[Described] = []
        size = 0
        with ThreadPoolExecutor(1, thread_name_prefix="write") as pool:
            running: Future[None] | None = None
            for item in items:
                part.append(item)
                size += _bytes_of(item.description)
                if len(part) == self._part_size or size >= _PART_BYTES:
                    running = self._next(pool, running, part)
                    part, size = [], 0
            if part:
                running = self._next(pool, running, part)
            if running:
                running.result()

    def _next(self, pool: ThreadPoolExecutor, running: Future[None] | None, part: Sequence[Described]) -> Future[None]:
        """At most one part is being written and one collected: that bounds the memory."""
        if running:
            running.result()
        return pool.submit(self._writer.add, [item.record for item in part], [item.description for item in part])


def _bytes_of(description: Description) -> int:
    arrays = [description.vector, *(description.maps or ())]
    if description.locals is not None:
        arrays.append(description.locals.descriptors)
    if description.keypoints is not None:
        arrays.append(description.keypoints.descriptors)
    return sum(array.nbytes for array in arrays)
