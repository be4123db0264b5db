"""What a run of `extract` or `reindex` did, in the same words for both. Shown, logged and kept in `runs/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class SyncSummary:
    """What a run did; counts are of images.

    Attributes:
        outcome: "done", or "stopped" when a signal or `--timeout` ended it early.
        stopped: the reason: the name of a signal, or "timeout"; "" where it was not.
        index, generation: the directory, and its committed generation after the run.
        model: "same", "changed" when this run ended a change of model, "changing" when one is under way.
        images: in the index after the run.
        added, changed: described, because they are new or their content is.
        moved: the same content under another id or path; not described.
        relabelled: another label or split; not described.
        removed: taken out of the index, because they are not among the photos any more.
        equal: nothing to do.
        failed: could not be read; listed in `failures.parquet`.
        ignored: files that are no pictures by their names.
        unmatched: rows of the labels file that name no photo.
        folded: parts that were merged into others.
        seconds: of the run.
        weights: of the model, as its card says.
        store: what the upload counted; empty where the store is the index itself.
    """

    outcome: str
    stopped: str
    index: str
    generation: int
    model: str
    images: int
    added: int
    changed: int
    moved: int
    relabelled: int
    removed: int
    equal: int
    failed: int
    ignored: int
    unmatched: int
    folded: int
    seconds: float
    weights: str
    store: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json` and the run's report."""
        return asdict(self)
