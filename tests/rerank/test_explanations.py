"""Why a reranker scored as it did: neighbours of superglobal, effects of local descriptors for the transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from listed import listed

from pipeline.errors import RelookError
from pipeline.rerank.ames.network import AMESNetwork, AMESShape
from pipeline.rerank.ames.reranker import AMESReranker
from pipeline.rerank.pair_reranker import PairReranker
from pipeline.rerank.rrt.network import RRTNetwork, RRTShape
from pipeline.rerank.rrt.reranker import RRTReranker
from pipeline.rerank.rrt_sop.network import RRTSOPNetwork, RRTSOPShape
from pipeline.rerank.rrt_sop.reranker import RRTSOPReranker
from pipeline.rerank.superglobal import SuperGlobalReranker
from pipeline.types import Candidates, Description, LocalDescriptors, explains

WIDTH, GLOBAL = 8, 16


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    values = rng.standard_normal(shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def grid(rng: np.random.Generator, rows: int, columns: int) -> LocalDescriptors:
    """A whole map whose cells come in any order."""
    row, column = np.divmod(rng.permutation(rows * columns), columns)
    xy = np.stack([column * 32 + 16, row * 32 + 16], axis=1).astype(np.float32)
    ones = np.ones(rows * columns, np.float32)
    return LocalDescriptors(unit(rng, rows * columns, WIDTH), xy, ones, ones)


class Gallery:
    def __init__(self, count: int = 6) -> None:
        rng = np.random.default_rng(3)
        self.images = {str(n): Description(unit(rng, GLOBAL), grid(rng, 3, 4)) for n in range(count)}

    def globals(self, ids: Sequence[str]) -> np.ndarray:
        return np.stack([self.images[name].vector for name in ids])

    def locals(self, ids: Sequence[str]) -> list[Any]:
        return [self.images[name].locals for name in ids]


def rerankers() -> list[PairReranker[Any]]:
    torch.manual_seed(0)
    shape = RRTShape(d_global=GLOBAL, d_model=WIDTH, heads=2, layers=2, feedforward=16, scale_rule="nearest")
    return [
        RRTReranker(RRTNetwork(shape)),
        AMESReranker(AMESNetwork(AMESShape(local_dim=WIDTH, model_dim=WIDTH, heads=2, layers=2, feedforward=16))),
        RRTSOPReranker(RRTSOPNetwork(RRTSOPShape(d_model=WIDTH, heads=2, layers=2, feedforward=16))),
    ]


@pytest.mark.parametrize("reranker", rerankers(), ids=lambda reranker: str(reranker.name))
def test_an_effect_is_the_change_of_the_logit(reranker: PairReranker[Any]) -> None:
    gallery = Gallery()
    query = gallery.images["0"]
    found = reranker.explain(query, listed(["1", "2"]), ["2", "1"], gallery)
    assert [len(one.query_effect) for one in found] == [12, 12]
    sides = [reranker.read([query], gallery=False), reranker.read([gallery.images["2"]], gallery=True)]
    one = torch.zeros(1, dtype=torch.int64)
    step = 1e-2
    for side, effects in ((0, found[0].query_effect), (1, found[0].image_effect)):
        for row in (0, 7):
            logits = []
            for sign in (-1, 1):
                changed = list(sides)
                rows = sides[side].rows.clone()
                rows[row] *= 1 + sign * step
                changed[side] = replace(sides[side], rows=rows)
                with torch.inference_mode():
                    logits.append(float(reranker.compare(changed[0].batch(one), changed[1].batch(one))))
            assert effects[row] == pytest.approx((logits[1] - logits[0]) / (2 * step), abs=2e-3)


@pytest.mark.parametrize("reranker", rerankers(), ids=lambda reranker: str(reranker.name))
def test_places_are_those_of_the_rows(reranker: PairReranker[Any]) -> None:
    gallery = Gallery()
    found = reranker.explain(gallery.images["0"], listed(["1"]), ["1"], gallery)[0]
    locals_ = gallery.images["1"].locals
    assert locals_ is not None
    expected = locals_.xy
    if reranker.name == "rrt_sop":  # the map row by row
        expected = np.stack([np.tile(np.arange(4) * 32 + 16, 3), np.repeat(np.arange(3) * 32 + 16, 4)], axis=1)
    np.testing.assert_array_equal(found.image_xy, expected)


def test_without_places_there_is_one_line() -> None:
    gallery = Gallery(2)
    nowhere = np.zeros((0, 2), np.float32)
    for name, image in gallery.images.items():
        assert image.locals is not None
        gallery.images[name] = replace(image, locals=replace(image.locals, xy=nowhere))
    with pytest.raises(RelookError, match=r"describe\.locals\.geometry=true"):
        rerankers()[1].explain(gallery.images["0"], listed(["1"]), ["1"], gallery)


def test_superglobal_names_the_neighbours_and_their_shares() -> None:
    gallery = Gallery(6)
    reranker = SuperGlobalReranker(k=3, beta=0.5, expansion=0.0)
    query = gallery.images["0"]
    ids = ["1", "2", "3", "4", "5"]
    found = reranker.explain(query, listed(ids), ["4", "2"], gallery)
    scores = reranker.score([query], Candidates(["q"], [ids], [np.zeros(5, np.float32)]), gallery)[0]
    assert [one.after for one in found] == pytest.approx([scores[3], scores[1]], abs=1e-6)
    for one, name in zip(found, ("4", "2"), strict=True):
        assert len(one.ids) == 3
        assert name not in one.ids
        own = 1 - one.weights.sum()
        mix = own * gallery.images[name].vector + one.weights @ gallery.globals(one.ids)
        assert one.after == pytest.approx(float(mix @ query.vector), abs=1e-6)
        assert one.before == pytest.approx(float(gallery.images[name].vector @ query.vector), abs=1e-6)
        assert (np.diff(one.weights) <= 0).all()


def test_whether_a_reranker_explains() -> None:
    assert explains(SuperGlobalReranker())
    assert not explains(object())  # type: ignore[arg-type]
