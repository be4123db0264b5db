"""Many photos through a describer: threads read and decode ahead while the network works.

Between the catalog and the index writer. What is in flight is bounded, so memory does not grow with the number of
photos; pictures of one shape share a batch; a photo that cannot be read is a result, not an end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from pipeline.describe.cores import use_one_core
from pipeline.describe.prefetch import In, Out, Patience, prefetch
from pipeline.errors import ImageError, RelookError, UnreachableError
from pipeline.imaging import ColourRule, ImageFile, Picture, Smallest, read_picture, too_slow
from pipeline.types import Describer, Description, FittableDescriber, ImageRecord, Prepared

# Seconds that a reader has to notice that its time is over.
_GRACE = 1.0


@dataclass(frozen=True)
class Described:
    """A photo that was described; `record` has the facts of its file filled in."""

    record: ImageRecord
    description: Description


@dataclass(frozen=True)
class Observed:
    """A batch of photos and what `FittableDescriber.observe` returned for them.

    `records` have the facts of their files filled in.
    """

    records: list[ImageRecord]
    output: Any


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
class ReadOptions:
    """How photos go through: `workers` threads read, `models` threads run the network on `batch_size` pictures each.

    On a CPU one core per network beats all cores on one network, because small maps do not divide well. `max_pixels`,
    `max_bytes` and `seconds` are those of `read_image`.

    No batch has photos of two blocks of `block` records, counted from the first one of a stream; None: one block.
    float32 rounds as a batch is composed, so descriptors of a block are the same to the last bit in every stream that
    begins with one of its own blocks.
    """

    batch_size: int
    workers: int
    models: int
    max_pixels: int
    max_bytes: int
    seconds: float = 60.0
    block: int | None = None

    def read(
        self, picture: Picture, name: str = "the picture", *, icc: ColourRule, smallest: Smallest | None = None
    ) -> ImageFile:
        """An image within these limits.

        Args:
            picture: see `read_picture`.
            name: what errors call it, unless it is a file.
            icc: how its colours are read: as on the card of the describer, `ModelCard.image`.
            smallest: see `read_image`.

        Raises:
            ImageError: it cannot be read.
        """
        limits = {"max_pixels": self.max_pixels, "max_bytes": self.max_bytes}
        return read_picture(picture, name, **limits, seconds=self.seconds, icc=icc, smallest=smallest)

    @property
    def too_slow(self) -> str:
        """The reason given for a picture whose reader did not come back."""
        return too_slow(self.seconds)

    def patience(self, instead: Callable[[In], Out]) -> Patience[In, Out]:
        """For threads that read: a little longer than `seconds`, since readers give up by themselves where they can."""
        return Patience(self.seconds + _GRACE, instead)


def describe_stream(
    describer: Describer,
    records: Iterable[ImageRecord],
    locate: Callable[[ImageRecord], Picture],
    reading: ReadOptions,
) -> Iterator[Described | Failed]:
    """Describe photos; `locate` gives the file of a record, or the picture itself.

    Results come in the order in which batches of one shape fill, which is the same in every run.
    """

    batches = prepare_stream(describer, records, locate, reading)

    def describe(batch: list[Ready] | Failed) -> list[Described | Failed]:
        return _described(describer, batch)

    for results in prefetch(describe, batches, reading.models, 2 * reading.models, _threads_of(reading)):
        yield from results


def describe_few(
    describer: Describer,
    records: Iterable[ImageRecord],
    locate: Callable[[ImageRecord], Picture],
    reading: ReadOptions,
) -> Iterator[Described | Failed]:
    """The same for a few photos, such as one query: the network runs in the caller's thread and uses all cores."""
    for batch in prepare_stream(describer, records, locate, reading):
        yield from _described(describer, batch)


def observe_stream(
    describer: FittableDescriber,
    records: Iterable[ImageRecord],
    locate: Callable[[ImageRecord], Picture],
    reading: ReadOptions,
) -> Iterator[Observed | Failed]:
    """Run the network on photos, in the batches and on the threads of `describe_stream`, without the projections."""

    def observe(batch: list[Ready] | Failed) -> Observed | Failed:
        if isinstance(batch, Failed):
            return batch
        output = describer.observe([item.prepared for item in batch])
        return Observed([item.record for item in batch], output)

    batches = prepare_stream(describer, records, locate, reading)
    yield from prefetch(observe, batches, reading.models, 2 * reading.models, _threads_of(reading))


def prepare_stream(
    describer: Describer,
    records: Iterable[ImageRecord],
    locate: Callable[[ImageRecord], Picture],
    reading: ReadOptions,
) -> Iterator[list[Ready] | Failed]:
    """Read photos into batches of one shape, ready for `describer`."""
    # Only describers that convert colours say how; any other one takes values as they are.
    icc: ColourRule = getattr(describer, "icc", "ignore")
    # Only describers that can read reduced photos say how far; one that finds keypoints as well needs all pixels.
    smallest: Smallest | None = getattr(describer, "smallest", None)

    def read(record: ImageRecord) -> Ready | Failed:
        try:
            # The box of a small thing may need all pixels of the photo.
            sides = smallest if record.bbox is None else None
            file = reading.read(locate(record), record.path, icc=icc, smallest=sides)
            return Ready(_with_facts(record, file), _prepared(describer, file, record))
        except ImageError as error:
            return Failed(record, error.reason)
        except UnreachableError:
            raise
        except RelookError as error:
            return Failed(record, str(error))

    def too_late(record: ImageRecord) -> Ready | Failed:
        return Failed(record, reading.too_slow)

    waiting: dict[object, list[Ready]] = {}
    limit = 4 * reading.batch_size
    patience: Patience[ImageRecord, Ready | Failed] = reading.patience(too_late)
    for number, item in enumerate(prefetch(read, records, reading.workers, limit, patience=patience), start=1):
        if isinstance(item, Failed):
            yield item
        else:
            bucket = waiting.setdefault(item.prepared.shape, [])
            bucket.append(item)
            if len(bucket) == reading.batch_size or sum(map(len, waiting.values())) >= limit:
                yield waiting.pop(max(waiting, key=lambda shape: len(waiting[shape])))
        if reading.block and number % reading.block == 0:
            yield from waiting.values()
            waiting.clear()
    yield from waiting.values()


def _described(describer: Describer, batch: list[Ready] | Failed) -> list[Described | Failed]:
    if isinstance(batch, Failed):
        return [batch]
    descriptions = describer.describe([item.prepared for item in batch])
    return [Described(item.record, description) for item, description in zip(batch, descriptions, strict=True)]


def _threads_of(reading: ReadOptions) -> Callable[[], None] | None:
    return use_one_core if reading.models > 1 else None


def _prepared(describer: Any, file: ImageFile, record: ImageRecord) -> Prepared:
    prepared: Prepared
    if file.pixels.shape[1::-1] == file.whole:
        prepared = describer.prepare(file.pixels, record.bbox)
    else:
        prepared = describer.prepare_reduced(file.pixels, file.whole)
    return prepared


def _with_facts(record: ImageRecord, file: ImageFile) -> ImageRecord:
    width, height = file.whole
    return replace(record, width=width, height=height, size=file.size, mtime_ns=file.mtime_ns, sha256=file.sha256)
