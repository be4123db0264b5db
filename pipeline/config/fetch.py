"""The section of the configuration that says how published data sets are downloaded.

Read by the stage `fetch`.
"""

from __future__ import annotations

from pydantic import Field, field_validator

from pipeline.settings import Positive, PositiveFloat, Section


class FetchConfig(Section):
    """How data sets are downloaded."""

    mirror: str | None = Field(None, description="the address of a mirror of the official hosts, with their paths")
    attempts: Positive = Field(5, description="how often in a row nothing may come before a file is given up")
    timeout: PositiveFloat = Field(30.0, description="seconds without a byte after which a connection counts as cut")

    @field_validator("mirror")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("expected an address that begins with http:// or https://")
        return value
