"""Work that is divided among processes: which share is meant by "K/N", and what lies in it.

Used by `extract`, `evaluate`, `search` and `upload`. Shares are runs of neighbours, so that what the shares give, one
after the other, is in the order of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pipeline.errors import UsageError

Item = TypeVar("Item")


def parse_shard(text: str) -> tuple[int, int]:
    """K and N of "K/N". Raises UsageError unless 1 <= K <= N."""
    number, slash, count = text.partition("/")
    if not (slash and number.isascii() and number.isdigit() and count.isascii() and count.isdigit()):
        raise UsageError(f"--shard {text}: expected K/N, such as 1/8")
    if not 1 <= int(number) <= int(count):
        raise UsageError(f"--shard {text}: K must be from 1 to N")
    return int(number), int(count)


def share_of(items: Sequence[Item], number: int, count: int) -> Sequence[Item]:
    """The share `number` of `count`, from 1: each has as many items as another, or one more; it may be empty."""
    return items[len(items) * (number - 1) // count : len(items) * number // count]
