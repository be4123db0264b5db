"""Tests of what is written, without waiting for the disk: nothing of it has to survive a power cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def without_flushing() -> Iterator[None]:
    """For all tests of a module that imports it. Processes that are started flush what they write."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.files.atomic_write._flush", lambda path: None)
        yield
