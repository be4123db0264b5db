"""Requests made from the OpenAPI document: none of them is a defect, and every response is as documented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from served import make_served, serving


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory, tiny_models: None) -> Iterator[Any]:
    """The schema of a running server."""
    config = make_served(tmp_path_factory.mktemp("openapi"), max_bytes=200_000, top_k=10, depth=50)
    with serving(config) as address:
        yield schemathesis.openapi.from_url(f"{address}/openapi.json")


schema = schemathesis.pytest.from_fixture("documented")


@schema.parametrize()
@settings(max_examples=15, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_every_response_is_as_documented(case: Any) -> None:
    case.call_and_validate(timeout=20)
