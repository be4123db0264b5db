"""One server for the tests of the room that do not change it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from served import client, make_served, serving
from tiny import TinyDescriber


@pytest.fixture(scope="module")
def tiny_models() -> Iterator[None]:
    """The tiny describer for the tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "pipeline.workflow.model_loading.new_describer", lambda config: TinyDescriber(config.describe.image.size)
        )
        patch.setattr("pipeline.workflow.model_loading.open_describer", lambda config, index: TinyDescriber(320))
        patch.setattr("pipeline.files.atomic_write._flush", lambda path: None)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_models: None) -> Path:
    """The folder of the index and the photos."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    """Of a server with small limits."""
    config = make_served(home, max_bytes=200_000, max_pixels=1_000_000, top_k=10, depth=50, decode_seconds=5)
    with serving(config) as where:
        yield where


@pytest.fixture
def http(address: str) -> Iterator[httpx.Client]:
    """A client of that server."""
    with client(address) as made:
        yield made


@pytest.fixture
def photo(home: Path) -> bytes:
    """The bytes of a photo of the collection."""
    return (home / "photos" / "tower" / "tower 0.png").read_bytes()
