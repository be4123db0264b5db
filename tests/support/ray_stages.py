"""Stages of the Ray engine with the describer of `tiny.py`: modules that the processes of a Ray cluster import."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiny import use_tiny

from pipeline import faults
from pipeline.workflow.indexing.sharding import ray_engine


class TinyReader(ray_engine.Reader):
    """Prepares pictures for the tiny describer."""

    def __init__(self, job: Any) -> None:
        use_tiny()
        super().__init__(job)


class TinyWorker(ray_engine.Worker):
    """Describes with it; its process is killed in the middle of shard 2, once."""

    def __init__(self, job: Any) -> None:
        use_tiny()
        super().__init__(job)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """See `Worker`."""
        notes = Path(os.environ["RAY_NOTES"])
        (notes / "pids").mkdir(exist_ok=True, parents=True)
        (notes / "pids" / str(os.getpid())).touch()
        killed = notes / "killed"
        if row["shard"] == 2 and not killed.exists():
            killed.touch()
            faults._reached, faults._asked = 0, "committed:3"
        return super().__call__(row)
