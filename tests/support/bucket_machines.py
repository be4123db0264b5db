"""Machines with disks of their own, and the configuration of an index that they share in a bucket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_config

from pipeline.config import Config


def machine(monkeypatch: pytest.MonkeyPatch, home: Path, name: str) -> None:
    """From here on this is a machine with a disk of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "disks" / name))


def in_bucket(home: Path, url: str, **catalog: Any) -> Config:
    """The tiny configuration of `home` with its index in the bucket at `url`, and no reranker."""
    config = tiny_config(home)
    return config.model_copy(
        update={
            "index": Path(f"{url}/my index"),
            "catalog": config.catalog.model_copy(update=catalog),
            "rerank": config.rerank.model_copy(update={"chain": ()}),
        }
    )


def photos(config: Config) -> str:
    """The photos of a configuration, as verbs take them."""
    return str(config.catalog.images)
