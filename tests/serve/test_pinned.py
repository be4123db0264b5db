"""A generation that a service has taken: everything is loaded before its first request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import TinyDescriber, paint, tiny, tiny_config

from pipeline.serve.generations import Pinned
from pipeline.stages.extract import extract
from pipeline.stores.table import store as table
from pipeline.workflow.gallery import Gallery

__all__ = ["tiny"]


def test_vectors_are_in_memory_before_the_first_request(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.workflow.model_loading.open_describer", lambda *_: TinyDescriber(320))
    for number in range(5):
        paint(tmp_path / "photos" / f"{number}.png", number)
    config = tiny_config(tmp_path)
    extract(config, str(config.catalog.images))
    loaded: list[Any] = []
    whole = table.load_vectors
    monkeypatch.setattr(table, "load_vectors", lambda rows, how: loaded.append(rows.shape) or whole(rows, how))
    pinned = Pinned(Gallery(config))
    assert loaded == [(5, 12)]
    for _ in range(2):
        found = pinned.gallery.search(tmp_path / "photos" / "3.png", rerank="none", skip_itself=False)
        assert found.hits[0].id == "3.png"
    assert loaded == [(5, 12)]
    pinned.retire()
