"""What many tests share: small pictures, a small collection, and the folder of shared data.

Pictures are drawn in a temporary folder, the same in every run; nothing is fetched. Tests that need real photos take
`shared`, which skips where there are none.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from parity_ledger import pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown
from photos import SHARED, PhotoMaker, SmallCollection, make_collection, make_photo

__all__ = ["pytest_sessionfinish", "pytest_terminal_summary", "pytest_testnodedown"]

# Several workers and many small processes: threads that spin for each other would cost more than they bring. Set before
# torch is imported anywhere; the command line's processes inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("relook", derandomize=True, deadline=None, database=None)
settings.load_profile("relook")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data."""
    if SHARED.is_dir():
        return SHARED
    reason = f"needs the shared data: {SHARED} does not exist; RELOOK_SHARED names another folder"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """A command that runs inside the process of the tests, perhaps for a fixture, sets the level of the log."""
    logging.getLogger("relook").setLevel(logging.NOTSET)
    yield
    logging.getLogger("relook").setLevel(logging.NOTSET)


@pytest.fixture
def photo(tmp_path: Path) -> PhotoMaker:
    """A function that draws a picture into the test's temporary folder."""

    def make(name: str = "photo.png", size: tuple[int, int] = (64, 48), seed: int = 0, **save: Any) -> Path:
        return make_photo(tmp_path / name, size, seed, **save)

    return make


@pytest.fixture
def small_collection(tmp_path: Path) -> SmallCollection:
    """A fresh collection for each test, which may change it."""
    return make_collection(tmp_path / "collection")
