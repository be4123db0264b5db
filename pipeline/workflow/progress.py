"""How a stage tells where it stands, without knowing who listens.

Stages call it; `pipeline.report.bars` draws it as bars, tests and programs may leave it silent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

logger = logging.getLogger("relook")


class Bar(Protocol):
    """One piece of work under way."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """So many more units are done; `note` is shown beside the bar."""


class Reporter(Protocol):
    """Whoever listens."""

    @contextmanager
    def bar(self, what: str, total: int, unit: str) -> Iterator[Bar]:
        """A piece of work of `total` units begins; it ends with the block."""
        raise NotImplementedError


class Silent:
    """Listens to nothing."""

    @contextmanager
    def bar(self, what: str, total: int, unit: str) -> Iterator[Bar]:
        """See `Reporter.bar`."""
        yield self

    def advance(self, count: int = 1, note: str = "") -> None:
        """See `Bar.advance`."""
