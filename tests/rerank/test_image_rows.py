"""Rows of many images: a batch holds each image's own rows, beside others or alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.rerank.image_rows import Ragged


def images(lengths: list[int]) -> Ragged:
    rows = torch.arange(3.0 * sum(lengths)).view(-1, 3) + 1
    return Ragged(rows, torch.tensor(lengths), torch.arange(2.0 * len(lengths)).view(-1, 2))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=6), st.data())
def test_an_image_alone_has_the_rows_that_it_has_beside_others(lengths: list[int], data: st.DataObject) -> None:
    ragged = images(lengths)
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=2, max_size=6))
    together = ragged.batch(torch.tensor(chosen))
    for place, image in enumerate(chosen):
        alone = ragged.batch(torch.tensor([image]))
        assert alone.padding is None
        assert torch.equal(alone.rows[0], together.rows[place, : lengths[image]])
        assert torch.equal(alone.whole[0], together.whole[place])
        assert not together.rows[place, lengths[image] :].any()


@pytest.mark.parametrize("count", [1, 3])
def test_the_rows_of_one_image_are_not_copied(count: int) -> None:
    ragged = images([2, 3, 1])
    batch = ragged.batch(torch.tensor([1] * count))
    assert batch.rows.shape == (count, 3, 3)
    assert batch.rows[count - 1].data_ptr() == ragged.rows[2:].data_ptr()
    assert torch.equal(batch.whole, ragged.whole[1].expand(count, 2))


def test_the_rows_of_neighbours_of_one_length_are_not_copied() -> None:
    ragged = images([1, 2, 2, 2, 3])
    batch = ragged.batch(torch.tensor([1, 2, 3]))
    assert batch.padding is None
    assert batch.rows.shape == (3, 2, 3)
    assert batch.rows.data_ptr() == ragged.rows[1:].data_ptr()
    assert torch.equal(batch.rows.flatten(0, 1), ragged.rows[1:7])
    assert torch.equal(batch.whole, ragged.whole[1:4])
    for others in ([1, 3, 2], [0, 1], [2, 3, 4]):
        assert ragged.batch(torch.tensor(others)).rows.data_ptr() != batch.rows.data_ptr()
