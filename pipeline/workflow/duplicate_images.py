"""Which images of an index are equal, or nearly equal: by the bytes of their files, and by their global descriptors.

Used by `duplicates`, which shows the groups, and by `adapt`, which counts each group once. No network is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pipeline.stores import Index
from pipeline.stores.exact.near_groups import near_groups
from pipeline.types import FloatArray, ImageRecord
from pipeline.workflow.progress import Reporter


def equal_rows(index: Index) -> npt.NDArray[np.int64]:
    """Of each image the number of the first one with its bytes and box; imported images have no known bytes."""
    first: dict[tuple[str, object], int] = {}
    found = []
    for row, record in enumerate(all_records(index)):
        found.append(first.setdefault((record.sha256, record.bbox), row) if record.sha256 else row)
    return np.array(found, dtype=np.int64)


def near_rows(index: Index, threshold: float, reporter: Reporter) -> npt.NDArray[np.int64]:
    """The component of each image in the graph of pairs with a cosine of at least `threshold`."""
    images = index.manifest.counts["images"]
    first_rows = np.cumsum([0, *(part.rows - len(part.deleted) for part in index.manifest.parts)])

    def stream(first: int) -> Iterator[FloatArray]:
        for part, start in zip(index.manifest.parts, first_rows.tolist(), strict=False):
            row = start
            if first >= start + part.rows - len(part.deleted):
                continue
            for _, vectors in index.stream_globals(part):
                if first < row + len(vectors):
                    yield vectors[max(0, first - row) :]
                row += len(vectors)

    with reporter.bar("compare", images, "images") as bar:
        return near_groups(stream, images, threshold, bar.advance)


def duplicate_rows(index: Index, threshold: float, reporter: Reporter) -> npt.NDArray[np.int64]:
    """The group of each image [N]: equal ones are together whatever their descriptors, near ones by `near_rows`."""
    near = near_rows(index, threshold, reporter)
    return np.asarray(near[equal_rows(index)], np.int64)


def all_records(index: Index) -> Iterator[ImageRecord]:
    """Every image in the order of the global descriptors, part by part."""
    for part in index.manifest.parts:
        yield from index.records_of(part)
