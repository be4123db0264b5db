"""`duplicates`: groups of photos that are equal, or nearly equal, in an index.

Reads the index alone: equal photos by the SHA-256 of their files, near-equal ones by the cosine of their global
descriptors. No network is loaded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config import Config
from pipeline.config.near_equal import NEAR_EQUAL
from pipeline.errors import RelookError, UsageError
from pipeline.stores import GlobalStore, Index
from pipeline.types import ImageRecord
from pipeline.workflow.bucket_index import local_copy, shown_index
from pipeline.workflow.duplicate_images import all_records, duplicate_rows, equal_rows
from pipeline.workflow.progress import Reporter, Silent

# Members of groups whose vectors are in memory together.
_MEMBERS = 8192


@dataclass(frozen=True)
class Member:
    """One photo of a group; `similarity` is its cosine to the first photo of the group."""

    id: str
    path: str
    label: str
    similarity: float


@dataclass(frozen=True)
class Group:
    """Photos that belong together, in the order of the index; `kind` is "equal" (the same bytes) or "near"."""

    kind: str
    members: list[Member]


@dataclass(frozen=True)
class DuplicatesResult:
    """The groups of two photos or more, the largest first.

    Attributes:
        index: the index directory.
        images: how many images were compared.
        threshold: the least cosine of a near-equal pair.
        redundant: how many images could go if one of each group stayed.
        groups: each with its members.
        seconds: of the run.
    """

    index: str
    images: int
    threshold: float
    redundant: int
    groups: list[Group]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return asdict(self)


def duplicates(
    config: Config, threshold: float = NEAR_EQUAL, *, equal_only: bool = False, reporter: Reporter | None = None
) -> DuplicatesResult:
    """Find the groups.

    Args:
        config: `index` matters here.
        threshold: the least cosine of a near-equal pair, above 0 and at most 1.
        equal_only: compare bytes alone.
        reporter: told about the progress.

    Raises:
        UsageError: the threshold is not in its range.
        RelookError: there is no index, or it is damaged or empty.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"--threshold {threshold:g}: must be above 0 and at most 1")
    started = time.monotonic()
    index = Index(local_copy(config).index)
    images = index.manifest.counts.get("images", 0)
    if not images:
        raise RelookError(f"{shown_index(config)}: the index is empty; run: relook extract PHOTOS")
    equal = equal_rows(index)
    components = equal if equal_only else duplicate_rows(index, threshold, reporter or Silent())
    groups = _groups(index, components, equal)
    return DuplicatesResult(
        index=shown_index(config),
        images=images,
        threshold=threshold,
        redundant=sum(len(group.members) - 1 for group in groups),
        groups=groups,
        seconds=round(time.monotonic() - started, 2),
    )


def _groups(index: Index, components: npt.NDArray[np.int64], equal: npt.NDArray[np.int64]) -> list[Group]:
    _, number, counts = np.unique(components, return_inverse=True, return_counts=True)
    wanted = np.flatnonzero(counts[number] > 1)
    chosen = set(wanted.tolist())
    records = {row: record for row, record in enumerate(all_records(index)) if row in chosen}
    rows_of: dict[int, list[int]] = {}
    for row in wanted.tolist():
        rows_of.setdefault(int(number[row]), []).append(row)
    ordered = sorted(rows_of.values(), key=lambda rows: (-len(rows), rows))
    similarity = _similarity(GlobalStore(index), [[records[row].id for row in rows] for rows in ordered])
    groups = []
    for rows, values in zip(ordered, similarity, strict=True):
        kind = "equal" if len(set(equal[rows].tolist())) == 1 else "near"
        groups.append(Group(kind, [_member(index, records[row], x) for row, x in zip(rows, values, strict=True)]))
    return groups


def _similarity(source: GlobalStore, groups: Sequence[Sequence[str]]) -> Iterator[list[float]]:
    """Of each group the cosines to its first member; vectors are read for some thousand members at once."""
    start = 0
    while start < len(groups):
        end, size = start + 1, len(groups[start])
        while end < len(groups) and size + len(groups[end]) <= _MEMBERS:
            size += len(groups[end])
            end += 1
        batch = groups[start:end]
        vectors = source.read([name for group in batch for name in group])
        for own in np.split(vectors, np.cumsum([len(group) for group in batch])[:-1]):
            yield np.clip(own @ own[0], -1, 1).tolist()
        start = end


def _member(index: Index, record: ImageRecord, similarity: float) -> Member:
    return Member(record.id, str(index.image_file(record)), record.label, round(similarity, 4))
