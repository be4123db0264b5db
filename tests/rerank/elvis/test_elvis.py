"""The reranker `elvis`: the same numbers as a plain Sinkhorn loop, whatever the sizes, the batch and the padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from listed import listed
from torch.nn import functional

from pipeline.errors import RelookError
from pipeline.rerank import load_reranker
from pipeline.rerank.checkpoints import recognise, save_checkpoint
from pipeline.rerank.elvis.network import ELViSNetwork, ELViSShape
from pipeline.rerank.elvis.reranker import ELViSReranker
from pipeline.rerank.elvis.transport import refuse_sharpness
from pipeline.rerank.image_rows import Batch, Ragged
from pipeline.types import Candidates, Description, LocalDescriptors, ModelCard

VECTOR = np.array([1, 0], np.float32)
WIDTH = 12
TEMPERATURE = 0.05


def network(counts_padding: bool = True, corner: float = 1.0, sharpness: float = 10.0) -> ELViSNetwork:
    torch.manual_seed(3)
    made = ELViSNetwork(ELViSShape(WIDTH, 8, 4, 6, counts_padding=counts_padding, sharpness=sharpness))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.7)
        made.dust_bin.fill_(corner)
    return made.eval()


def described(count: int, seed: int) -> Description:
    rows = np.random.default_rng(seed).normal(size=(count, WIDTH))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ones = np.ones(count, np.float32)
    places = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    return Description(VECTOR, LocalDescriptors(rows.astype(np.float32), places, ones, ones))


class Gallery:
    def __init__(self, images: Sequence[Description]) -> None:
        self._images = images

    def locals(self, ids: Sequence[str]) -> list[LocalDescriptors | None]:
        return [self._images[int(name)].locals for name in ids]


@torch.no_grad()
def plain_score(net: ELViSNetwork, query: Description, image: Description, padded: tuple[int, int] | None) -> float:
    """One pair in float64: the whole matrix with its bins, padded with zeros where the masses count padding."""
    net, sides, real = net.double(), [], []
    for part, size in zip((query, image), padded or (0, 0), strict=True):
        rows = torch.from_numpy(part.locals.descriptors).double()
        real.append(len(rows))
        sides.append(functional.pad(rows, (0, 0, 0, max(0, size - len(rows)))))
    units = [functional.normalize(net.remap_local(rows), dim=1) for rows in sides]
    bins = [net.dust_bin_mlp(rows)[:, 0] for rows in units]
    m, n = len(units[0]), len(units[1])
    scores = torch.full((m + 1, n + 1), float(net.dust_bin), dtype=torch.float64)
    scores[:m, :n] = units[0] @ units[1].T
    scores[real[0] : m, :n] = scores[:m, real[1] : n] = -torch.inf
    scores[:m, n], scores[m, :n] = bins
    scores *= net.shape.sharpness
    norm = -math.log(m + n)
    rows, columns = torch.full((m + 1,), norm), torch.full((n + 1,), norm)
    rows[m] += math.log(n)
    columns[n] += math.log(m)
    u, v = torch.zeros(m + 1).double(), torch.zeros(n + 1).double()
    for _ in range(net.shape.iterations):
        u = rows - (scores + v[None]).logsumexp(1)
        v = columns - (scores + u[:, None]).logsumexp(0)
    plan = (scores + u[:, None] + v[None] - norm)[:m, :n].exp()
    strongest = torch.cat([plan.amax(1)[: real[0]], plan.amax(0)[: real[1]]])
    total = float(net.f(strongest[:, None]).sigmoid().sum())
    net.float()
    return total


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.integers(1, 9),
    st.booleans(),
    st.sampled_from([-0.5, 0.0, 1.0, 4.0]),
)
def test_scores_are_those_of_the_plain_loop(counts: list[int], own: int, counts_padding: bool, corner: float) -> None:
    net = network(counts_padding, corner)
    query, images = described(own, 1), [described(count, 2 + row) for row, count in enumerate(counts)]
    padded = (11, 9) if counts_padding else None
    reranker = ELViSReranker(net, temperature=TEMPERATURE, query_locals=11, gallery_locals=9)
    ids = [str(row) for row in range(len(images))]
    (found,) = reranker.score([query], Candidates(["q"], [ids], [np.ones(len(ids))]), Gallery(images))
    plain = [TEMPERATURE * plain_score(net, query, image, padded) for image in images]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-np.array(plain))), atol=2e-6)


@pytest.mark.parametrize(("corner", "sharpness"), [(1.0, 40.0), (-1.0, 40.0), (7.0, 10.0), (1.0, 0.5)])
def test_the_largest_sharpness_that_is_taken_has_the_scores_of_float64(corner: float, sharpness: float) -> None:
    net = network(corner=corner, sharpness=sharpness)
    refuse_sharpness(net.dust_bin, sharpness)
    query, images = described(7, 1), [described(count, 2 + count) for count in (9, 9, 5)]
    reranker = ELViSReranker(net, temperature=TEMPERATURE, query_locals=8, gallery_locals=9)
    ids = [str(row) for row in range(len(images))]
    (found,) = reranker.score([query], Candidates(["q"], [ids], [np.ones(len(ids))]), Gallery(images))
    plain = [TEMPERATURE * plain_score(net, query, image, (8, 9)) for image in images]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-np.array(plain))), atol=1e-5)


def test_pair_by_pair_has_the_largest_values_of_the_whole_transport() -> None:
    net = network()
    parts = [torch.from_numpy(described(count, count).locals.descriptors) for count in (6, 4, 5)]
    with torch.no_grad():
        ragged = Ragged(net.begin(torch.cat(parts)), torch.tensor([6, 4, 5]), net.padding(torch.tensor([0.0, 2, 1])))
        query, gallery = ragged.batch(torch.tensor([0, 0, 0])), ragged.batch(torch.tensor([0, 1, 2]))
        plan, votes = net.plan(query, gallery), net.votes(query, gallery)
        expected = net.f(plan.amax(2).unsqueeze(2)).squeeze(2).sigmoid()
    torch.testing.assert_close(votes[0], expected, atol=1e-6, rtol=0)
    assert not votes[1][gallery.padding].any()


def test_projecting_into_given_rows_has_the_values_of_the_layers() -> None:
    net = network()
    descriptors = torch.from_numpy(described(9, 3).locals.descriptors)
    rows = torch.zeros(11, net.shape.model_dim + 1)
    with torch.inference_mode():
        net.begin_into(rows[1:10], descriptors)
        torch.testing.assert_close(rows[1:10], net.begin(descriptors), atol=1e-6, rtol=0)
        half = torch.zeros_like(rows[:9])
        with torch.autocast("cpu", torch.bfloat16):
            net.begin_into(half, descriptors)
            assert torch.equal(half, net.begin(descriptors))
    assert not rows[0].any()
    assert not rows[10].any()


def test_images_that_come_in_chunks_are_read_like_those_at_once() -> None:
    reranker = ELViSReranker(network(), gallery_locals=8)
    images = [described(count, count) for count in (3, 0, 9, 8, 1)]
    taken = (images[start : start + 2] for start in range(0, 5, 2))
    parts, whole = reranker.read_all(taken, 5, gallery=True), reranker.read(images, gallery=True)
    assert whole.lengths.tolist() == [3, 0, 8, 8, 1]
    for name in ("rows", "lengths", "whole"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))


@pytest.mark.parametrize("counts_padding", [True, False])
def test_images_without_descriptors_have_a_score(counts_padding: bool) -> None:
    net = network(counts_padding)
    reranker = ELViSReranker(net, temperature=TEMPERATURE, query_locals=6, gallery_locals=6)
    images = [described(count, count) for count in (0, 3, 6)]
    ids = ["0", "1", "2", "0"]
    for query in (described(5, 9), described(0, 9)):
        (found,) = reranker.score([query], Candidates(["q"], [ids], [np.ones(4)]), Gallery(images))
        assert np.isfinite(found).all()
        vote = float(net.f(torch.zeros(1, 1)).detach().sigmoid())  # of a descriptor that nothing takes
        np.testing.assert_allclose(found[0], 1 / (1 + np.exp(-TEMPERATURE * vote * len(query.locals))), atol=1e-6)


def test_only_the_strongest_are_compared() -> None:
    net = network(counts_padding=False)
    image = described(9, 4)
    cut = Description(VECTOR, image.locals.first(4))
    candidates = Candidates(["q"], [["0", "1"]], [np.ones(2)])
    few = ELViSReranker(net, temperature=TEMPERATURE, gallery_locals=4)
    (found,) = few.score([described(5, 1)], candidates, Gallery([image, cut]))
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_an_explanation_has_votes_that_add_up_to_the_score() -> None:
    reranker = ELViSReranker(network(), temperature=TEMPERATURE, query_locals=8, gallery_locals=8)
    query, gallery = described(5, 1), Gallery([described(7, 2), described(8, 3)])
    (scores,) = reranker.score([query], Candidates(["q"], [["0", "1"]], [np.ones(2)]), gallery)
    for found, score in zip(reranker.explain(query, listed(["0", "1"]), ["0", "1"], gallery), scores, strict=True):
        total = found.query_effect.sum() + found.image_effect.sum()
        assert 1 / (1 + math.exp(-TEMPERATURE * total)) == pytest.approx(score, abs=1e-6)
        assert len(found.image_xy) == len(found.image_effect)


def test_gradients_are_finite_where_images_have_fewer_descriptors() -> None:
    net = network().train()
    rows = net.begin(functional.normalize(torch.randn(2, 6, WIDTH), dim=-1))
    padding = torch.arange(6) >= torch.tensor([[6], [2]])
    side = Batch(rows, padding, net.padding(padding.sum(1).float()))
    net.logits(net(side, side)).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())
    assert net.dust_bin.grad.abs() > 0


def test_its_own_file_keeps_what_the_tensors_do_not_tell(tmp_path: Path) -> None:
    made = ELViSReranker(network(counts_padding=False, sharpness=7.0), temperature=0.2, weight=0.3)
    file = tmp_path / "elvis.safetensors"
    save_checkpoint(file, made.to_checkpoint())
    loaded = load_reranker("elvis", checkpoint=file)
    assert isinstance(loaded, ELViSReranker)
    assert loaded.network.shape == made.network.shape
    assert (loaded.temperature, loaded.weight) == (0.2, 0.3)
    assert load_reranker("elvis", checkpoint=file, counts_padding=True).network.shape.counts_padding


def test_an_official_file_is_recognised_and_has_the_authors_temperature(tmp_path: Path) -> None:
    torch.save({"state": network().state_dict()}, tmp_path / "official.pt")
    assert recognise(network().state_dict()) == "elvis"
    loaded = load_reranker("elvis", checkpoint=tmp_path / "official.pt")
    assert (loaded.temperature, loaded.network.shape.counts_padding) == (0.5, True)


def test_a_sharpness_beyond_float32_is_refused(tmp_path: Path) -> None:
    torch.save({"state": network(corner=9.0).state_dict()}, tmp_path / "official.pt")
    with pytest.raises(RelookError, match="sharpness = 10 with dust_bin = 9"):
        load_reranker("elvis", checkpoint=tmp_path / "official.pt")


def card(**locals_: object) -> ModelCard:
    return ModelCard("x", "none", "sha256:0", {"locals": locals_}, "", 2, WIDTH)


def test_whole_maps_projections_and_other_widths_are_refused() -> None:
    reranker = ELViSReranker(network())
    reranker.check(card(count=50))
    with pytest.raises(RelookError, match="a whole map"):
        reranker.check(card(count=50, kind="map"))
    with pytest.raises(RelookError, match="projected by ames"):
        reranker.check(card(count=50, projection={"kind": "ames", "weights": "sha256:1"}))
    with pytest.raises(RelookError, match="of 12 values; the index has 5"):
        reranker.check(ModelCard("x", "none", "sha256:0", {"locals": {"count": 50}}, "", 2, 5))
