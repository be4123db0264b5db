"""Many photos through a describer: threads read and decode ahead while the network works.

Between the catalog and the index writer. What is in flight is bounded, so memory does not grow with the number of
photos; pictures of one shape share a batch; a photo that cannot be read is a result, not an end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import ImageError, RelookError
from pipeline.imaging import ImageFile, read_image
from pipeline.types import Describer, Description, ImageRecord, Prepared


@dataclass(frozen=True)
class Described:
    """A photo that was described; `record` has the facts of its file filled in."""

    record: ImageRecord
    description: Description


@dataclass(frozen=True)
class Failed:
    """A photo that was not, and why, in a few words."""

    record: ImageRecord
    reason: str


@dataclass(frozen=True)
class Ready:
    """A photo that was read; `record` has the facts of its file filled in."""

    record: ImageRecord
    prepared: Prepared


@dataclass(frozen=True)
class Reading:
    """How photos are read: `batch_size` pictures of one shape at a time, by `workers` threads, within limits.

    `max_pixels` and `max_bytes` are those of `read_image`.
    """

    batch_size: int
    workers: int
    max_pixels: int
    max_bytes: int


def describe_stream(
    describer: Describer,
    records: Iterable[ImageRecord],
    locate: Callable[[ImageRecord], Path],
    reading: Reading,
) -> Iterator[Described | Failed]:
    """Describe photos; `locate` gives the file of a record.

    Results come in the order in which batches of one shape fill, which is the same in every run.
    """
    for batch in prepare_stream(describer, records, locate, reading):
        if isinstance(batch, Failed):
            yield batch
            continue
        descriptions = describer.describe([item.prepared for item in batch])
        for item, description in zip(batch, descriptions, strict=True):
            yield Described(item.record, description)


def prepare_stream(
    describer: Describer,
    records: Iterable[ImageRecord],
    locate: Callable[[ImageRecord], Path],
    reading: Reading,
) -> Iterator[list[Ready] | Failed]:
    """Read photos into batches of one shape, ready for `describer`."""

    def read(record: ImageRecord) -> Ready | Failed:
        try:
            file = read_image(locate(record), max_pixels=reading.max_pixels, max_bytes=reading.max_bytes)
            return Ready(_with_facts(record, file), describer.prepare(file.pixels, record.bbox))
        except ImageError as error:
            return Failed(record, error.reason)
        except RelookError as error:
            return Failed(record, str(error))

    waiting: dict[object, list[Ready]] = {}
    limit = 4 * reading.batch_size
    for item in _ahead(read, records, reading.workers, limit):
        if isinstance(item, Failed):
            yield item
            continue
        bucket = waiting.setdefault(item.prepared.shape, [])
        bucket.append(item)
        if len(bucket) == reading.batch_size or sum(map(len, waiting.values())) >= limit:
            yield waiting.pop(max(waiting, key=lambda shape: len(waiting[shape])))
    yield from waiting.values()


def _ahead(
    read: Callable[[ImageRecord], Ready | Failed], records: Iterable[ImageRecord], workers: int, limit: int
) -> Iterator[Ready | Failed]:
    """Results of `read` in order, with at most `limit` of them under way."""
    running: deque[Future[Ready | Failed]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="read") as pool:
        try:
            for record in records:
                running.append(pool.submit(read, record))
                if len(running) >= limit:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


def _with_facts(record: ImageRecord, file: ImageFile) -> ImageRecord:
    height, width = file.pixels.shape[:2]
    return replace(record, width=width, height=height, size=file.size, mtime_ns=file.mtime_ns, sha256=file.sha256)
