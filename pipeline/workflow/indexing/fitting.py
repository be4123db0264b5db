"""Fitting a describer's projections on a sample of the photos, whose network outputs are kept for their descriptions.

Imported where there is something to fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.catalog import Catalog
from pipeline.config import Config
from pipeline.describe import Described, Failed, Observed, observe_stream
from pipeline.errors import RelookError
from pipeline.types import FittableDescriber, ImageRecord
from pipeline.workflow.model_loading import read_options
from pipeline.workflow.progress import Reporter

# Network outputs that are kept at most; photos beyond pass the network once more.
_KEPT_BYTES = 128 << 20


@dataclass
class FitSample:
    """Photos whose network outputs are in memory, in the batches of the network; they are described first.

    Attributes:
        batches: removed one by one as `describe` yields them.
        failed: those that could not be read.
        rows: of the photos of the two in the catalog, ascending: whole blocks, or the whole catalog.
    """

    batches: list[Observed] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    _bytes: int = 0
    _full: bool = False

    def keep(self, batch: Observed) -> None:
        """Keep a batch, unless there was no room for it or for one before."""
        self._full = self._full or self._bytes + batch.output.bytes > _KEPT_BYTES
        if not self._full:
            self._bytes += batch.output.bytes
            self.batches.append(Observed(batch.records, batch.output.on_cpu()))

    def end(
        self, sample: Sequence[ImageRecord], rows: Sequence[int], failed: Sequence[Failed], block: int, *, whole: bool
    ) -> None:
        """Drop what is kept of a block in part: the rest of the collection then passes the network in whole blocks.

        Args:
            sample: all photos that were observed.
            rows: of these in the catalog.
            failed: those of them that could not be read.
            block: photos of one.
            whole: whether they are all photos of the catalog, whose last block may be a part of one.
        """
        places = {record.id: place for place, record in enumerate(sample)}
        kept = {record.id for batch in self.batches for record in batch.records}
        lost = places.keys() - kept - {item.record.id for item in failed}
        count = min((places[name] for name in lost), default=len(sample))
        count -= count % block if lost or not whole else 0
        self.batches = [batch for batch in self.batches if places[batch.records[0].id] < count]
        self.failed = [item for item in failed if places[item.record.id] < count]
        self.rows = list(rows[:count])

    def describe(self, describer: FittableDescriber) -> Iterator[Described | Failed]:
        """The photos with their descriptions."""
        yield from self.failed
        while self.batches:
            batch = self.batches.pop(0)
            for record, description in zip(batch.records, describer.describe_output(batch.output), strict=True):
                yield Described(record, description)


def fit(describer: FittableDescriber, catalog: Catalog, config: Config, reporter: Reporter) -> FitSample:
    """Fit the projections on a sample of `describe.fit_images` photos that depends on the seed alone.

    A projection that is learnt from labels gets whole labels, those with at least two photos.

    Returns:
        What the network computed, as far as there is memory for it. These photos are described first, so that its
        batches are those of describing, and descriptions are the same to the last bit.

    Raises:
        RelookError: none of the sample can be read, or it is too small.
    """
    count = min(config.describe.fit_images, len(catalog))
    order = np.random.default_rng(config.seed).permutation(len(catalog))
    rows = _by_label(catalog, order)[:count] if describer.fits_on_labels else order[:count]
    rows = sorted(map(int, rows))
    sample = [catalog.records[row] for row in rows]
    labels: list[str] = []
    kept, failed, reading = FitSample(), list[Failed](), read_options(config)
    with reporter.bar("fit projections", len(sample), "images") as bar:

        def outputs() -> Iterator[object]:
            for batch in observe_stream(describer, sample, catalog.file, reading):
                if isinstance(batch, Failed):
                    failed.append(batch)
                    bar.advance()
                else:
                    kept.keep(batch)
                    labels.extend(record.label for record in batch.records)
                    yield batch.output
                    bar.advance(len(batch.records))
            if sample and len(failed) == len(sample):
                raise RelookError(
                    f"none of the {len(sample)} images to fit projections on can be read; the first is "
                    f"{failed[0].record.path}: {failed[0].reason}"
                )

        if describer.fits_on_labels and not sample:
            raise RelookError("describe.globals.whitening = pairs: the photos have no labels, or no two of one label")
        describer.fit_on(outputs(), labels)
    kept.end(sample, rows, failed, reading.block or len(sample), whole=len(sample) == len(catalog))
    return kept


def _by_label(catalog: Catalog, order: npt.NDArray[np.int64]) -> list[int]:
    """The rows of labels with at least two photos, label after label, as they come in `order`."""
    found: dict[str, list[int]] = {}
    for row in order.tolist():
        found.setdefault(catalog.records[row].label, []).append(row)
    return [row for label, rows in found.items() if label and len(rows) > 1 for row in rows]
