"""Shares of any work: in order, all of it, none larger than another by more than one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.workflow.shares import share_of


@given(st.integers(0, 50), st.integers(1, 60))
def test_shares_one_after_the_other_are_the_whole(items: int, count: int) -> None:
    shares = [share_of(range(items), number, count) for number in range(1, count + 1)]
    assert [item for share in shares for item in share] == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
