"""Requests made from the OpenAPI document: none of them is a defect, and every response is as documented."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from served import make_served, serving

# A schema cannot say that a search needs a photo or an id, that bytes are a photo, or which ids there are.
NOT_SAID = [positive_data_acceptance]
# Everything in a form is text: a number is a folder as well.
FORMS = [*NOT_SAID, negative_data_rejection]
LIMITS = settings(
    max_examples=12,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def test_every_response_is_as_documented(tmp_path_factory: pytest.TempPathFactory, tiny_models: None) -> None:
    config = make_served(tmp_path_factory.mktemp("openapi"), max_bytes=200_000, top_k=10, depth=50)
    with serving(config) as address:
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
        operations = [found.ok() for found in schema.get_all_operations()]
        assert len(operations) == 9
        for operation in operations:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

                @LIMITS
                @given(case=operation.as_strategy(generation_mode=mode))
                def each(case: Any) -> None:
                    excluded = FORMS if case.media_type == "multipart/form-data" else NOT_SAID
                    case.call_and_validate(excluded_checks=excluded, timeout=20)

                # A route without parameters has nothing that a request could violate.
                with suppress(Unsatisfiable) if mode is GenerationMode.NEGATIVE else nullcontext():
                    each()
