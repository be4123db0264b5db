"""Fixtures of the tests of index directories."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(params=["parquet", "csv"])
def tables(request: pytest.FixtureRequest) -> Any:
    """Both formats of an index's tables."""
    return request.param
