"""`extract`: photos to descriptors in an index directory.

First verb of the flow. Brings the index to the state of the photos: new and changed ones are described, those that are
gone are deleted, the rest is left alone. Decoding, the network and the writing of parts overlap.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.catalog import Catalog, load_catalog
from pipeline.config import Config
from pipeline.describe import Described, Failed, describe_stream, prepare_stream
from pipeline.errors import RelookError
from pipeline.stages.opening import new_describer, reading
from pipeline.stages.progress import Reporter, Silent
from pipeline.stores import IndexWriter
from pipeline.stores.registry import table_format
from pipeline.types import Description, ImageRecord

# A part is closed when its descriptors take so much memory, however few photos it has.
_PART_BYTES = 256 << 20


@dataclass(frozen=True)
class ExtractResult:
    """What an extraction did; counts are of images."""

    index: str
    generation: int
    images: int
    added: int
    changed: int
    removed: int
    failed: int
    ignored: int
    seconds: float
    weights: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json` and the run's report."""
        return asdict(self)


def extract(config: Config, images: str, reporter: Reporter | None = None) -> ExtractResult:
    """Describe a collection.

    Args:
        config: `index`, `describe`, `extract` and `store.kind` matter here.
        images: a folder, a manifest, or NAME:FOLDER of a data set.
        reporter: told about the progress.

    Raises:
        LockedError: another run is writing to the index.
        RelookError: there are no images, none can be read, or the index is of another model.
    """
    started = time.monotonic()
    reporter = reporter or Silent()
    catalog = load_catalog(images, config.catalog.labels, config.catalog.outside)
    describer = new_describer(config)
    with IndexWriter(config.index) as writer:
        known = writer.index.records if writer.index else {}
        if describer.to_fit and writer.index:
            describer.use_fitted(writer.index.fitted())
        if describer.to_fit:
            _fit(describer, catalog, config, reporter)
        writer.begin(describer.card, describer.fitted(), catalog.root, table_format(config.store.kind))
        # Of a million photos there is no list of records: they are made as they are read.
        unchanged = (_unchanged(catalog, record, known.get(record.id)) for record in catalog)
        fresh = ~np.fromiter(unchanged, dtype=bool, count=len(catalog))
        todo = compress(catalog, fresh)
        removed = set(known)
        removed.difference_update(record.id for record in catalog)
        tally = _Tally(writer, config.extract.part_size, known)
        tally.failures += catalog.failed
        with reporter.bar("extract", int(fresh.sum()), "images") as bar:
            for item in tally.written(describe_stream(describer, todo, catalog.file, reading(config))):
                bar.advance(1, f"{len(tally.failures)} failed" if isinstance(item, Failed) else "")
        if len(tally.failures) == len(catalog) + len(catalog.failed):
            _, path, reason = tally.failures[-1]
            raise _nothing_readable(len(catalog), path, reason)
        writer.delete(removed)
        writer.complete(config.reindex.keep)
        writer.write_failures(tally.failures)
        index = writer.index
        assert index is not None
        result = ExtractResult(
            index=str(config.index),
            generation=index.manifest.generation,
            images=index.manifest.counts["images"],
            added=tally.added,
            changed=tally.changed,
            removed=len(removed),
            failed=len(tally.failures),
            ignored=catalog.ignored,
            seconds=round(time.monotonic() - started, 2),
            weights=index.card.weights,
        )
        writer.write_report("extract", result.to_json())
    return result


class _Tally:
    """Collects results into parts, has them written by one thread while the next are computed, and counts."""

    def __init__(self, writer: IndexWriter, part_size: int, known: dict[str, ImageRecord]) -> None:
        self._writer, self._part_size, self._known = writer, part_size, known
        self.failures: list[tuple[str, str, str]] = []
        self.added = 0
        self.changed = 0

    def written(self, items: Iterator[Described | Failed]) -> Iterator[Described | Failed]:
        """Passes every item on; when it ends, all of them are committed."""
        part: list[Described] = []
        size = 0
        with ThreadPoolExecutor(1, thread_name_prefix="write") as pool:
            running: Future[None] | None = None
            for item in items:
                self._count(item)
                yield item
                if isinstance(item, Described):
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

    def _count(self, item: Described | Failed) -> None:
        if isinstance(item, Failed):
            self.failures.append((item.record.id, item.record.path, item.reason))
        elif item.record.id in self._known:
            self.changed += 1
        else:
            self.added += 1


def _bytes_of(description: Description) -> int:
    arrays = [description.vector, *(description.maps or ())]
    if description.locals is not None:
        arrays.append(description.locals.descriptors)
    return sum(array.nbytes for array in arrays)


def _fit(describer: Any, catalog: Catalog, config: Config, reporter: Reporter) -> None:
    """Fit the projections on a sample that depends on the seed alone."""
    count = min(config.describe.fit_images, len(catalog))
    rows = np.random.default_rng(config.seed).permutation(len(catalog))[:count]
    sample = [catalog.records[row] for row in sorted(rows)]
    with reporter.bar("fit", len(sample), "images") as bar:

        def batches() -> Iterator[list[Any]]:
            failed: list[Failed] = []
            for batch in prepare_stream(describer, sample, catalog.file, reading(config)):
                if isinstance(batch, Failed):
                    failed.append(batch)
                    bar.advance()
                else:
                    yield [item.prepared for item in batch]
                    bar.advance(len(batch))
            if len(failed) == len(sample):
                raise _nothing_readable(len(sample), failed[0].record.path, failed[0].reason)

        describer.fit(batches())


def _nothing_readable(count: int, path: str, reason: str) -> RelookError:
    return RelookError(f"none of the {count} images can be read; the first is {path}: {reason}")


def _unchanged(catalog: Catalog, record: ImageRecord, old: ImageRecord | None) -> bool:
    """Same place, same words, same size and time of the file: its descriptors are still right."""
    if old is None or (old.path, old.label, old.split, old.bbox) != (
        record.path,
        record.label,
        record.split,
        record.bbox,
    ):
        return False
    try:
        stat = Path(catalog.file(record)).stat()
    except OSError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (old.size, old.mtime_ns)
