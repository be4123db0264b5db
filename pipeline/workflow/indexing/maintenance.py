"""`compact`, `gc` and `reindex --rollback`: work on the index alone, without a photo or a network.

Verbs beside `reindex`, which does the first two by itself as far as a nightly run needs them.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.config import Config
from pipeline.stores import Index
from pipeline.stores.index.compaction import fold_parts
from pipeline.stores.index.writer_when_free import writer_when_free
from pipeline.workflow.stop import Stop


@dataclass(frozen=True)
class MaintenanceResult:
    """The index afterwards, and what was done: parts folded, files and bytes removed."""

    index: str
    generation: int
    images: int
    parts: int
    kept: int
    folded: int
    files: int
    bytes: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json` and the run's report."""
        return asdict(self)


def rollback(config: Config, wait: float = 0.0, stop: Stop | None = None) -> MaintenanceResult:
    """Return to the generation before. Raises RelookError when none is kept, or it is not whole."""
    return maintain(config, "rollback", wait, stop)


def maintain(config: Config, verb: str, wait: float = 0.0, stop: Stop | None = None) -> MaintenanceResult:
    """Do one of "compact", "gc" and "rollback" under the lock, and write the run's report.

    Args:
        config: `index`, `extract.part_size` and `reindex.keep` matter here.
        verb: which.
        wait: seconds to wait while another run holds the lock.
        stop: ends the wait early.

    Raises:
        LockedError: another run holds the lock for longer than `wait`.
        RelookError: there is no index, or no generation to return to.
    """
    started = time.monotonic()
    before = Index(config.index).manifest  # says that there is no index before a lock makes the folder
    folded = files = size = 0
    stop = stop or Stop()
    with writer_when_free(config.index, wait, lambda: stop.reason) as writer:
        if verb == "compact":
            folded = fold_parts(writer, config.extract.part_size)
        elif verb == "gc":
            removed = writer.collect(config.reindex.keep)
            files, size = removed.files, removed.bytes
        else:
            writer.rollback()
        assert writer.index is not None
        manifest = writer.index.manifest
        result = MaintenanceResult(
            index=str(config.index),
            generation=manifest.generation,
            images=manifest.counts["images"],
            parts=len(manifest.parts),
            kept=1 + len(manifest.earlier),
            folded=folded,
            files=files,
            bytes=size,
            seconds=round(time.monotonic() - started, 2),
        )
        writer.write_report(verb, result.to_json(), changed=manifest.generation != before.generation)
    return result
