"""Reading an object with its tag, and writing it where it still has that tag: what a provider's client has to do.

Below `conditional_put`, which uses it, and `conditional_s3` and `conditional_gs`, which do it.
"""

from __future__ import annotations

from typing import Protocol


class ConditionFailedError(Exception):
    """The object is not what the condition of a write says, or another write was under way."""


class ConditionalRequests(Protocol):
    """What a provider's client does; other answers than these are a RelookError."""

    def read(self, key: str) -> tuple[bytes, str] | None:
        """Content and tag of an object; None: there is no such object."""

    def write(self, key: str, content: bytes, tag: str | None) -> None:
        """Write where the object still has `tag`; None: where there is none. Raises ConditionFailedError."""
