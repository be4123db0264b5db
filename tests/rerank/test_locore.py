"""LoCoRe: its attention against a plain loop, padding, lists of any length, windows, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from listed import listed

from pipeline.errors import RelookError, UsageError
from pipeline.rerank import RerankStep, apply_chain, load_reranker
from pipeline.rerank.chain import fuse
from pipeline.rerank.checkpoints import save_checkpoint
from pipeline.rerank.locore.attention import LongformerAttention, Plan
from pipeline.rerank.locore.network import LoCoReNetwork, aggregate
from pipeline.rerank.locore.reranker import LoCoReReranker
from pipeline.rerank.locore.shape import LoCoReShape
from pipeline.rerank.windows import Windows
from pipeline.types import Candidates, Description, LocalDescriptors, ModelCard

CARD = ModelCard("toy", "toy", "sha256:0", {"locals": {"count": 4, "scales": [1.0]}}, "", 12, 8)
SHAPE = LoCoReShape(
    width=16,
    d_local=8,
    d_global=12,
    layers=2,
    heads=2,
    feedforward=24,
    windows=(6, 10),
    positions=80,
    scales=1,
    project_local=True,
    project_global=True,
    locals=4,
    candidates=5,
    padding_counts=False,
)


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    values = rng.standard_normal(shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def described(rng: np.random.Generator, count: int) -> Description:
    ones = np.ones(count, np.float32)
    part = LocalDescriptors(unit(rng, count, 8), np.zeros((count, 2), np.float32), ones, ones)
    return Description(unit(rng, 12), part)


class Gallery:
    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(3)
        self.images = {f"g{row}": described(rng, row % 6) for row in range(count)}

    def globals(self, ids: Sequence[str]) -> np.ndarray:
        return np.stack([self.images[name].vector for name in ids])

    def locals(self, ids: Sequence[str]) -> list[LocalDescriptors | None]:
        return [self.images[name].locals for name in ids]

    def candidates(self, *depths: int) -> Candidates:
        names = list(self.images)
        scores = [np.linspace(0.9, 0.1, depth, dtype=np.float32) for depth in depths]
        return Candidates([f"q{row}" for row in range(len(depths))], [names[:depth] for depth in depths], scores)


def queries(count: int) -> list[Description]:
    rng = np.random.default_rng(4)
    return [described(rng, 3 + row) for row in range(count)]


def reranker(sliding: Windows | None = None, **changed: Any) -> LoCoReReranker:
    torch.manual_seed(0)
    network = LoCoReNetwork(replace(SHAPE, **changed))
    for parameter in network.parameters():  # random enough that everything has an effect
        torch.nn.init.normal_(parameter, std=0.5)
    return LoCoReReranker(network, CARD, 0.5, windows=sliding)


# The attention


def plain_attention(layer: LongformerAttention, tokens: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Token by token, key by key."""
    result = torch.zeros_like(tokens)
    width = tokens.shape[2] // layer.heads
    for sequence in range(len(tokens)):
        padding = torch.zeros(tokens.shape[1], dtype=torch.bool) if plan.padding is None else plan.padding[sequence]
        for place in range(tokens.shape[1]):
            if padding[place]:
                continue
            seen = [
                key
                for key in range(tokens.shape[1])
                if not padding[key]
                and (plan.is_global[place] or plan.is_global[key] or abs(place - key) <= layer.window // 2)
            ]
            ending = "_global" if plan.is_global[place] else ""
            query = getattr(layer, f"query{ending}")(tokens[sequence, place])
            keys, values = (getattr(layer, f"{name}{ending}")(tokens[sequence, seen]) for name in ("key", "value"))
            for head in range(layer.heads):
                part = slice(head * width, (head + 1) * width)
                weights = (keys[:, part] @ query[part] / width**0.5).softmax(0)
                result[sequence, place, part] = weights @ values[:, part]
    return result


@given(
    count=st.integers(1, 30),
    window=st.integers(2, 20),
    block=st.integers(1, 12),
    batch=st.integers(1, 2),
    padded=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_attention_is_that_of_a_plain_loop(
    count: int, window: int, block: int, batch: int, padded: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = LongformerAttention(8, 2, window).eval()
    is_global = torch.rand(count) < 0.3
    is_global[-1] = True  # as the separator behind every image
    padding = torch.rand(batch, count) < 0.3 if padded else None
    if padding is not None:
        padding[:, -1] = False
    plan, tokens = Plan(is_global, padding), torch.randn(batch, count, 8)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr("pipeline.rerank.locore.attention._BLOCK", block)
        found = layer(tokens, plan)
        torch.testing.assert_close(found, plain_attention(layer, tokens, plan), atol=1e-5, rtol=1e-5)
        locally = layer(tokens, plan, global_too=False)[:, ~is_global]
        torch.testing.assert_close(locally, found[:, ~is_global], atol=0, rtol=0)


def test_gradients_are_finite_with_padding() -> None:
    made = reranker()
    lists = made.lists_of([described(np.random.default_rng(0), count) for count in (3, 0, 4, 1)])
    made.network(lists).sum().backward()
    assert all(part.grad is None or part.grad.isfinite().all() for part in made.network.parameters())


# Scores


@pytest.mark.parametrize("aggregation", ["max-start", "max-end", "max-sum", "max-prod", "mean"])
@pytest.mark.parametrize("global_token", [True, False])
def test_lists_of_any_length_score_as_alone(aggregation: str, global_token: bool) -> None:
    made = reranker(aggregation=aggregation, global_token=global_token, d_global=12)
    gallery, asked = Gallery(6), queries(4)
    if not global_token:
        gallery.globals = None  # type: ignore[assignment, method-assign]
    together = made.score(asked, gallery.candidates(5, 0, 1, 4), gallery)
    for query, depth, found in zip(asked, (5, 0, 1, 4), together, strict=True):
        assert found.shape == (depth,)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(made.score([query], gallery.candidates(depth), gallery)[0], found)
    assert made.needs == ({"globals", "locals"} if global_token else {"locals"})


@pytest.mark.parametrize("aggregation", ["max-start", "max-end", "max-sum", "max-prod", "mean"])
def test_what_is_aggregated_of_padded_images(aggregation: Any) -> None:
    """One token of the last layer gives what all tokens give; padding counts only as the official code has it."""
    images = [described(np.random.default_rng(0), count) for count in (3, 1, 4, 2)]
    for padding_counts in (True, False):
        made = reranker(aggregation=aggregation, padding_counts=padding_counts)
        lists = made.lists_of(images)
        tokens = made.network.candidate_tokens(3)
        every = made.token_logits(lists)[0, :, 1][tokens]
        for row, image in enumerate(images[1:]):
            assert image.locals is not None
            kept = every[row] if padding_counts else every[row, : 1 + len(image.locals)]
            expected = aggregate(kept[None], aggregation)
            torch.testing.assert_close(made.local_logits(lists)[0, row : row + 1], expected, atol=1e-4, rtol=1e-4)


def test_a_candidate_changes_the_scores_of_others() -> None:
    made, gallery = reranker(), Gallery(6)
    assert made.scores_lists
    alone, together = (made.score(queries(1), gallery.candidates(depth), gallery)[0] for depth in (3, 5))
    assert np.abs(alone - together[:3]).max() > 1e-4


def test_a_checkpoint_makes_the_same_reranker(tmp_path: Path) -> None:
    made = reranker(aggregation="mean")
    save_checkpoint(tmp_path / "it.safetensors", made.to_checkpoint())
    again = load_reranker("locore", tmp_path / "it.safetensors").bind(CARD)
    assert isinstance(again, LoCoReReranker)
    assert (again.network.shape, again.weight, again.windows) == (made.network.shape, 0.5, Windows(5, 2))
    gallery, asked = Gallery(5), queries(2)
    for one, other in zip(*(it.score(asked, gallery.candidates(5, 3), gallery) for it in (made, again)), strict=True):
        np.testing.assert_array_equal(one, other)


# Windows


@given(
    depth=st.integers(0, 60),
    size=st.integers(1, 20),
    stride=st.integers(1, 20),
    direction=st.sampled_from(["end-to-start", "start-to-end", "end-to-start-to-end", "start-to-end-to-start"]),
)
def test_windows_cover_the_head(depth: int, size: int, stride: int, direction: Any) -> None:
    if stride > size:
        with pytest.raises(ValueError, match="stride"):
            Windows(size, stride, direction)
        return
    passes = Windows(size, stride, direction).passes(depth)
    assert {place for one in passes for place in range(one.start, one.stop)} == set(range(depth))
    assert all(0 <= one.start <= one.stop <= depth and one.stop - one.start <= size for one in passes)
    assert depth <= size or all(one != other for one, other in pairwise(passes))
    if depth <= size:
        assert passes == [slice(0, depth)]


def test_the_published_windows() -> None:
    passes = Windows(100, 50, "end-to-start").passes(400)
    assert [one.start for one in passes] == [300, 250, 200, 150, 100, 50, 0]
    two_ways = Windows(100, 50, "start-to-end-to-start").passes(400)
    assert [one.start for one in two_ways] == [*range(0, 350, 50), *range(250, -50, -50)]


@pytest.mark.parametrize("direction", ["end-to-start", "start-to-end", "end-to-start-to-end"])
def test_the_chain_sorts_window_by_window(direction: Any) -> None:
    """As a plain loop over the windows of one query after the other, with lists of different lengths."""
    made, gallery, asked = reranker(Windows(4, 2, direction)), Gallery(15), queries(3)
    candidates = gallery.candidates(15, 3, 9)
    step = RerankStep("locore", made, 11, 0.4)
    for number, ranking in enumerate(apply_chain([step], asked, candidates, gallery)):
        ids = list(candidates.ids[number])
        before = dict(zip(ids, candidates.scores[number], strict=True))
        last: dict[str, float] = {}
        for window in made.windows.passes(min(11, len(ids))):
            part = ids[window]
            alone = Candidates(["q"], [part], [np.zeros(len(part), np.float32)])
            scores = made.score([asked[number]], alone, gallery)[0]
            fused = fuse(np.array([before[name] for name in part]), scores, 0.4)
            last |= zip(part, scores.tolist(), strict=True)
            ids[window] = [part[row] for row in np.argsort(-fused, kind="stable")]
        assert list(ranking.ids) == ids
        head = min(11, len(ids))
        expected = [fuse(before[name], np.float32(last[name]), 0.4) if name in last else before[name] for name in ids]
        expected[:head] = np.minimum.accumulate(expected[:head]).tolist()  # the list's scores do not rise
        np.testing.assert_allclose(ranking.scores, expected, atol=1e-6)
        np.testing.assert_array_equal(ranking.explanation["locore"], [last.get(name, np.nan) for name in ids])


# Refusals


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    made = reranker()
    other = replace(CARD, settings={"locals": {"scales": [1.0, 2.0], "count": 4}})
    with pytest.raises(RelookError, match="tells 1 scales apart; the index has local descriptors of 2"):
        made.check(other)
    with pytest.raises(RelookError, match=r"of 12 \(global\) and 8 \(local\) values; the index has 11 and 8"):
        made.check(replace(CARD, dimension=11))
    with pytest.raises(RelookError, match="needs local descriptors"):
        made.check(replace(CARD, local_dimension=0))
    with pytest.raises(RelookError, match="trained on another model"):
        made.check(replace(CARD, weights="sha256:1"))
    file = tmp_path / "it.safetensors"
    save_checkpoint(file, made.to_checkpoint())
    with pytest.raises(RelookError, match=r"rerank\.locore\.window = 13; this locore has positions for 12 candidates"):
        load_reranker("locore", file, window=13)
    with pytest.raises(UsageError, match=r"rerank\.locore\.stride = 6 is more than a window of 5"):
        load_reranker("locore", file, stride=6)
    with pytest.raises(RelookError, match="13 candidates in one pass"):
        made.score(queries(1), Gallery(13).candidates(13), Gallery(13))
    with pytest.raises(RelookError, match="train-rerank --reranker locore"):
        load_reranker("locore")


# --- why a score is as it is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregation", ["mean", "max-end", "max-start"])
def test_an_effect_is_the_change_of_the_logit(aggregation: Any) -> None:
    """By finite differences, of tokens of the query, of the image and of another candidate."""
    torch.manual_seed(0)
    network = LoCoReNetwork(replace(SHAPE, aggregation=aggregation)).eval()
    for parameter in network.parameters():
        parameter.data.normal_(std=0.3)
    reranker, gallery = LoCoReReranker(network), Gallery(6)
    query, names = gallery.images["g5"], ["g0", "g1", "g2", "g3", "g4"]
    (found,) = reranker.explain(query, listed(names), ["g3"], gallery)
    lists = reranker.lists_of([query, *(gallery.images[name] for name in names)])
    tokens, padding = network.tokens(lists)
    read = network.tokens_read(5)

    def score(changed: torch.Tensor) -> float:
        with torch.inference_mode():
            logits = network.logits_of(changed, padding, read.flatten())[..., 1].view(-1, *read.shape)
            return float(aggregate(logits, network.shape.aggregation, network.counted(lists))[0, 3])

    def effect(image: int, rows: Any) -> float:
        step, values = 1e-2, []
        for sign in (-1, 1):
            changed = tokens.detach().clone()
            changed[0, image, rows] *= 1 + sign * step
            values.append(score(changed))
        return (values[1] - values[0]) / (2 * step)

    assert found.query_effect[0] == pytest.approx(effect(0, 1), abs=2e-3)
    assert found.image_effect[-1] == pytest.approx(effect(4, len(found.image_effect)), abs=2e-3)
    there = 1 + len(gallery.images["g1"].locals or ())
    assert found.candidates["g1"] == pytest.approx(effect(2, slice(0, there)), abs=5e-3)
    assert list(found.candidates) == sorted(found.candidates, key=lambda name: -abs(found.candidates[name]))
    assert found.candidates.keys() == {"g0", "g1", "g2", "g4"}
    np.testing.assert_array_equal(found.image_xy, gallery.images["g3"].locals.xy[: len(found.image_effect)])


def test_an_explanation_of_a_long_list_reads_a_window_around_the_image() -> None:
    torch.manual_seed(0)
    reranker, gallery = LoCoReReranker(LoCoReNetwork(SHAPE)), Gallery(9)
    names = [f"g{row}" for row in range(1, 9)]
    first, last = reranker.explain(gallery.images["g0"], listed(names), ["g1", "g8"], gallery)
    assert first.candidates.keys() == set(names[1:5])
    assert last.candidates.keys() == set(names[3:7])
