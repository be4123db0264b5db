"""The rerankers that compare part by part: equal to their plain formulation, whatever is padded or batched together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.errors import RelookError, UsageError
from pipeline.rerank import load_reranker
from pipeline.rerank.ames.network import AMESNetwork, AMESShape
from pipeline.rerank.ames.reranker import AMESReranker, projection_hash
from pipeline.rerank.checkpoints import save_checkpoint
from pipeline.rerank.pair_reranker import PairReranker
from pipeline.rerank.rrt.network import RRTNetwork, RRTShape
from pipeline.rerank.rrt.reranker import RRTReranker, tokens_of
from pipeline.rerank.rrt_sop.network import RRTSOPNetwork, RRTSOPShape, position_code
from pipeline.rerank.rrt_sop.reranker import RRTSOPReranker, map_of
from pipeline.types import Candidates, Description, LocalDescriptors, ModelCard

LOCAL, WIDTH, GLOBAL = 12, 8, 16
AMES = AMESShape(local_dim=LOCAL, model_dim=WIDTH, heads=2, layers=3, feedforward=16)
RRT = RRTShape(d_global=GLOBAL, d_model=WIDTH, heads=2, layers=3, feedforward=16, scale_rule="nearest")
SOP = RRTSOPShape(d_model=WIDTH, heads=2, layers=2, feedforward=16)


def card(local_dimension: int = LOCAL, **locals_: Any) -> ModelCard:
    return ModelCard("toy", "toy", "sha256:0", {"locals": locals_}, "", GLOBAL, local_dimension)


def local(rng: np.random.Generator, count: int, width: int = LOCAL) -> LocalDescriptors:
    values = rng.standard_normal((count, width)).astype(np.float32)
    scale = rng.choice(np.array([0.7071, 1, 1.4142], np.float32), count)
    return LocalDescriptors(values, np.zeros((count, 2), np.float32), scale, np.ones(count, np.float32))


def grid(rng: np.random.Generator, height: int, width: int) -> LocalDescriptors:
    rows, columns = np.divmod(np.arange(height * width), width)
    part = local(rng, height * width, WIDTH)
    xy = np.stack([(columns + 0.5) * 91.3, (rows + 0.5) * 33.7], axis=1).astype(np.float32)
    return LocalDescriptors(part.descriptors, xy, part.scale, part.weight)


class Gallery:
    def __init__(self, parts: Sequence[LocalDescriptors]) -> None:
        rng = np.random.default_rng(5)
        self.parts = dict(zip(map(str, range(len(parts))), parts, strict=True))
        self.vectors = {name: rng.standard_normal(GLOBAL).astype(np.float32) for name in self.parts}
        self.read: list[str] = []

    def globals(self, ids: Sequence[str]) -> np.ndarray:
        return np.stack([self.vectors[name] for name in ids])

    def locals(self, ids: Sequence[str]) -> list[LocalDescriptors]:
        self.read += ids
        return [self.parts[name] for name in ids]

    def maps(self, ids: Sequence[str]) -> Any:
        raise AssertionError("nobody here reads maps")


def described(parts: Sequence[LocalDescriptors], seed: int = 7) -> list[Description]:
    rng = np.random.default_rng(seed)
    return [Description(rng.standard_normal(GLOBAL).astype(np.float32), part) for part in parts]


def scores(reranker: PairReranker[Any], queries: list[Description], gallery: Gallery, ids: Any = None) -> list[Any]:
    ids = [list(gallery.parts)] * len(queries) if ids is None else ids
    names = [f"q{row}" for row in range(len(queries))]
    return reranker.score(queries, Candidates(names, ids, [np.ones(len(row), np.float32) for row in ids]), gallery)


def shaken(network: Any) -> Any:
    """Every parameter drawn anew: biases and norms too, which start from 0 and 1."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return network


def make(name: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    if name == "ames":
        return AMESReranker(shaken(AMESNetwork(AMES)), card(), 0.4, 0.5, **changes)
    if name == "ames_bits":
        shape = AMESShape(**{**AMES.to_json(), "binarised": True, "round_gallery": False})
        return AMESReranker(shaken(AMESNetwork(shape)), card(), 0.4, 0.5, **changes)
    if name == "rrt_sop":
        return RRTSOPReranker(shaken(RRTSOPNetwork(SOP)), card(WIDTH, kind="map"), 0.4, 0.5, **changes)
    shape = RRTShape(**{**RRT.to_json(), "d_local": LOCAL})
    return RRTReranker(shaken(RRTNetwork(shape)), card(), 0.4, 0.5, **changes)


def images(name: str, seed: int) -> list[LocalDescriptors]:
    rng = np.random.default_rng(seed)
    if name == "rrt_sop":
        return [grid(rng, *size) for size in ((3, 3), (1, 1), (2, 5), (3, 3), (4, 1), (1, 6))]
    return [local(rng, count) for count in (5, 1, 9, 5, 0, 3)]


NAMES = ["ames", "ames_bits", "rrt", "rrt_sop"]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_batched_equals_one_by_one(name: str) -> None:
    """Images of all sizes together, a single descriptor and none among them; lists of all lengths."""
    gallery, queries = Gallery(images(name, 0)), described(images(name, 1))
    ids = [list("012345"), list("5"), [], list("42"), list("012345"), list("31")]
    together = scores(make(name), queries, gallery, ids)
    assert sorted(gallery.read) == list("012345"), "each image is read once"
    for batch_size in (1, 4):
        for one, other in zip(together, scores(make(name, batch_size=batch_size), queries, gallery, ids), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
    for query, row, found in zip(queries, ids, together, strict=True):
        assert len(found) == len(row)
        assert found.dtype == np.float32
        assert ((found >= 0) & (found <= 1)).all()  # and so not NaN
        for candidate, value in zip(row, found, strict=True):
            assert scores(make(name), [query], gallery, [[candidate]])[0] == pytest.approx(value, abs=1e-6)


def test_ames_equals_its_plain_formulation() -> None:
    for kind in ("ames", "ames_bits"):
        gallery, queries = images("ames", 0), images("ames", 1)
        reranker = make(kind)
        found = scores(reranker, described(queries), Gallery(gallery))
        for query, row in zip(queries, found, strict=True):
            expected = [plain_ames(reranker.network, query.descriptors, part.descriptors) for part in gallery]
            np.testing.assert_allclose(row, torch.sigmoid(0.5 * torch.stack(expected)), atol=2e-6)


@torch.inference_mode()
def plain_ames(network: AMESNetwork, query: np.ndarray, gallery: np.ndarray) -> torch.Tensor:
    """One pair, one square of attention with a mask in each half of a layer, every token to the end."""
    left, right = (
        network.remap_local(functional.normalize(torch.from_numpy(side), dim=-1)) for side in (query, gallery)
    )
    if not network.shape.binarised:
        right = right.half().float()
    tokens = torch.cat([network.mtc_token[None], left, right])
    image = torch.tensor([0] + [1] * len(left) + [2] * len(right))
    token = (image[:, None] == 0) | (image[None] == 0)
    same = image[:, None] == image[None]
    for layer in network.decoder.layers:
        tokens = layer.norm1(tokens + square(layer.self_attn, tokens, token | same))
        tokens = layer.norm2(tokens + square(layer.cross_attn, tokens, token | ~same))
        tokens = layer.norm3(tokens + layer.linear2(layer.linear1(tokens).relu()))
    return network.classifier(tokens[0])[0]


def square(attention: nn.MultiheadAttention, tokens: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    return attention(tokens, tokens, tokens, attn_mask=~allowed, need_weights=False)[0]


def plain_encoder(network: Any, tokens: torch.Tensor) -> torch.Tensor:
    """PyTorch's own encoder with the same parameters; the logit of the first token."""
    shape = network.shape
    layer = nn.TransformerEncoderLayer(shape.d_model, shape.heads, shape.feedforward, 0.0, batch_first=True)
    encoder = nn.TransformerEncoder(layer, shape.layers, enable_nested_tensor=False).eval()
    encoder.load_state_dict(network.encoder.state_dict())
    return network.classifier(encoder(tokens[None])[0, 0])[0]


@pytest.mark.parametrize("changes", [{}, {"d_local": LOCAL}, {"normalize": False}, {"token_length": 2.5}])
@torch.inference_mode()
def test_rrt_equals_its_plain_formulation(changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = shaken(RRTNetwork(RRTShape(**{**RRT.to_json(), **changes})))
    shape = network.shape
    rng = np.random.default_rng(0)
    left, right = (
        tokens_of(described([local(rng, count, shape.width_of_locals) for count in counts], seed), shape)
        for counts, seed in (((4, 1, 6), 1), ((2, 0, 7), 2))
    )
    found = RRTReranker(network).logits(left, right)

    def side(tokens: Any, row: int, segment: int) -> torch.Tensor:
        whole, parts = network.remap(tokens.vector[row]), tokens.locals[row][~tokens.padding[row]]
        parts = network.remap_local(parts) if shape.d_local else parts
        if shape.normalize:
            whole, parts = functional.normalize(whole, dim=-1), functional.normalize(parts, dim=-1)
        parts = parts * shape.token_length + network.scale_encoder(tokens.scale[row][~tokens.padding[row]])
        table = network.seg_encoder.weight
        return torch.cat([(whole * shape.token_length + table[4 + segment])[None], parts + table[segment]])

    for row, value in enumerate(found):
        special = network.seg_encoder.weight[2:4]
        sequence = torch.cat([special[:1], side(left, row, 0), special[1:], side(right, row, 1)])
        torch.testing.assert_close(plain_encoder(network, sequence), value, atol=2e-6, rtol=0)


@torch.inference_mode()
def test_rrt_sop_equals_its_plain_formulation() -> None:
    reranker = make("rrt_sop")
    network = reranker.network
    table = network.seg_encoder.weight
    rng = np.random.default_rng(0)
    left, right = (torch.from_numpy(rng.standard_normal((2, WIDTH, *s)).astype(np.float32)) for s in ((3, 2), (2, 4)))
    for row, value in enumerate(reranker.logits(left, right)):
        sides = [
            (maps[row] + position_code(*maps.shape[2:], WIDTH)).flatten(1).T + table[2 + number]
            for number, maps in enumerate((left, right))
        ]
        expected = plain_encoder(network, torch.cat([table[:1], sides[0], table[1:2], sides[1]]))
        torch.testing.assert_close(expected, value, atol=2e-6, rtol=0)


def test_what_stands_in_padding_has_no_effect() -> None:
    rng = torch.Generator().manual_seed(0)
    reranker = make("ames")
    query, gallery = torch.randn(2, 6, LOCAL, generator=rng), torch.randn(2, 4, LOCAL, generator=rng)
    hidden = torch.arange(6)[None] >= torch.tensor([6, 2])[:, None]
    clean = reranker.logits(query, hidden, gallery, hidden[:, :4])
    for garbage in (1e6, float("nan")):
        query[hidden], gallery[hidden[:, :4]] = garbage, garbage
        torch.testing.assert_close(reranker.logits(query, hidden, gallery, hidden[:, :4]), clean, atol=0, rtol=0)


def test_only_the_first_descriptors_are_compared() -> None:
    """Of AMES another number on either side; of RRT as many as its shape says."""
    gallery, queries = images("ames", 0), images("ames", 1)

    def cut(parts: list[LocalDescriptors], count: int) -> list[LocalDescriptors]:
        arrays = [(part.descriptors, part.xy, part.scale, part.weight) for part in parts]
        return [LocalDescriptors(*(array[:count] for array in part)) for part in arrays]

    short = scores(make("ames", query_locals=4, gallery_locals=2), described(queries), Gallery(gallery))
    by_hand = scores(make("ames"), described(cut(queries, 4)), Gallery(cut(gallery, 2)))
    np.testing.assert_allclose(short, by_hand, atol=1e-6)
    network = make("rrt").network
    other = RRTNetwork(RRTShape(**{**network.shape.to_json(), "locals": 3}))
    other.load_state_dict(network.state_dict())
    short = scores(RRTReranker(other), described(queries), Gallery(gallery))
    by_hand = scores(RRTReranker(network), described(cut(queries, 3)), Gallery(cut(gallery, 3)))
    np.testing.assert_allclose(short, by_hand, atol=1e-6)


@pytest.mark.parametrize("kind", ["ames", "ames_bits"])
def test_ames_reads_what_was_projected_when_describing(kind: str) -> None:
    gallery, queries = images("ames", 0), images("ames", 1)
    plain, reranker = make(kind), make(kind)
    reranker.card = None
    weights = projection_hash(reranker.network)
    other = card(WIDTH, projection={"kind": kind, "weights": weights})
    reranker.check(other)
    before = scores(reranker, described(queries), Gallery(gallery))
    np.testing.assert_array_equal(
        before, scores(plain, described(queries), Gallery(gallery))
    )  # a check changes nothing
    bound = reranker.bind(other)

    def projected(parts: list[LocalDescriptors]) -> list[LocalDescriptors]:
        network = reranker.network
        make_ = network.bits if kind == "ames_bits" else lambda x: network.project(x, gallery=False)
        with torch.inference_mode():
            values = [make_(torch.from_numpy(part.descriptors)).numpy() for part in parts]
        nothing = np.zeros(0, np.float32)
        # Such an index may do without places, scales and weights.
        return [LocalDescriptors(value, np.zeros((0, 2), np.float32), nothing, nothing) for value in values]

    found = scores(bound, described(projected(queries)), Gallery(projected(gallery)))
    np.testing.assert_allclose(found, scores(plain, described(queries), Gallery(gallery)), atol=1e-6)
    found = scores(bound.bind(card()), described(queries), Gallery(gallery))
    np.testing.assert_allclose(found, scores(plain, described(queries), Gallery(gallery)), atol=1e-6)


def test_checkpoints_survive_their_files(name: str, tmp_path: Path) -> None:
    reranker = make(name)
    save_checkpoint(tmp_path / "file.safetensors", reranker.to_checkpoint())
    again = load_reranker(name.removesuffix("_bits"), tmp_path / "file.safetensors")
    assert (again.weight, again.temperature) == (0.4, 0.5)
    assert (again.card, again.network.shape) == (reranker.card, reranker.network.shape)
    gallery, queries = Gallery(images(name, 0)), described(images(name, 1))
    np.testing.assert_array_equal(scores(reranker, queries, gallery), scores(again, queries, gallery))


def test_the_matcher_is_taken_from_the_whole_official_model(tmp_path: Path) -> None:
    network = make("rrt_sop").network
    matcher = dict(network.state_dict())
    backbone = {
        "mean": torch.zeros(1, 3, 1, 1),
        "layer1.0.conv1.weight": torch.zeros(1),
        "classifier.bias": torch.ones(3),
    }
    whole = {f"matcher.{key}": value for key, value in matcher.items()} | backbone
    for state in (whole, matcher):
        torch.save({"state": state}, tmp_path / "model.pt")
        loaded = load_reranker("rrt_sop", tmp_path / "model.pt", heads=2)
        for key, value in loaded.network.state_dict().items():
            torch.testing.assert_close(value, matcher[key], atol=0, rtol=0)
    torch.save({"state": whole | {"odd.weight": torch.zeros(1)}}, tmp_path / "model.pt")
    refused(lambda: load_reranker("rrt_sop", tmp_path / "model.pt"), r"1 unexpected \(odd.weight\)")


def test_maps_are_found_in_any_order_and_only_when_whole() -> None:
    part = grid(np.random.default_rng(0), 4, 3)
    expected = part.descriptors.T.reshape(WIDTH, 4, 3)
    order = np.random.default_rng(1).permutation(12)
    np.testing.assert_array_equal(map_of(take(part, order)), expected)
    noise = np.random.default_rng(2).uniform(-2e-4, 2e-4, (12, 2)).astype(np.float32)
    moved = LocalDescriptors(part.descriptors, part.xy + noise, part.scale, part.weight)
    np.testing.assert_array_equal(map_of(moved), expected)
    middle = part.xy[:, 1] != np.unique(part.xy[:, 1])[1]
    for chosen in (order[:11], np.array([0, *range(11)]), np.flatnonzero(middle), np.zeros(0, np.intp)):
        refused(lambda chosen=chosen: map_of(take(part, chosen)), "no full grid")
    refused(lambda: map_of(local(np.random.default_rng(0), 4)), "no full grid")


def take(part: LocalDescriptors, rows: np.ndarray) -> LocalDescriptors:
    return LocalDescriptors(part.descriptors[rows], part.xy[rows], part.scale[rows], part.weight[rows])


def refused(action: Callable[[], Any], words: str) -> None:
    with pytest.raises(RelookError, match=words) as caught:
        action()
    assert "\n" not in str(caught.value)


def test_descriptors_that_do_not_fit_are_refused() -> None:
    ames, rrt, sop = make("ames"), make("rrt"), make("rrt_sop")
    ames.card = rrt.card = sop.card = None
    for reranker in (ames, rrt, sop):
        refused(lambda reranker=reranker: reranker.check(card(0)), "needs local descriptors")
    for reranker in (rrt, sop):
        refused(lambda reranker=reranker: reranker.check(card(geometry=False)), "geometry=true")
    ames.check(card(geometry=False))
    refused(lambda: ames.check(card(WIDTH)), "takes local descriptors of 12 values; the index has 8")
    weights = projection_hash(ames.network)
    other = {"kind": "ames", "weights": "sha256:0"}
    refused(lambda: ames.check(card(WIDTH, projection=other)), f"another ames checkpoint.*sha256:0.*{weights}")
    refused(lambda: ames.check(card(WIDTH, projection={"kind": "ames_bits", "weights": weights})), "by ames_bits")
    refused(lambda: ames.check(card(projection={"kind": "ames", "weights": weights})), "projected local .* of 8 values")
    refused(lambda: rrt.check(card(WIDTH)), "of 16 .global. and 12 .local. values; the index has 16 and 8")
    refused(lambda: sop.check(card(WIDTH)), "whole maps")
    refused(lambda: sop.check(card(LOCAL, kind="map")), "takes local descriptors of 8 values; the index has 12")
    for name in NAMES:
        refused(
            lambda name=name: make(name).check(card(WIDTH + 1, kind="map")), "values; the index has|another model's"
        )
    bits = make("ames_bits")
    torch.testing.assert_close(bits.bits(torch.zeros(1, LOCAL)), torch.zeros(1, WIDTH))
    refused(lambda: ames.bits(torch.zeros(1, LOCAL)), "no bits")


def test_images_without_what_is_read_are_refused(name: str) -> None:
    gallery, reranker = Gallery(images(name, 0)), make(name)
    nothing = Description(np.zeros(GLOBAL, np.float32))
    refused(lambda: scores(reranker, [nothing], gallery), "needs local descriptors")
    part = local(np.random.default_rng(0), 3, 5)
    refused(lambda: scores(reranker, [Description(nothing.vector, part)], gallery), "values")
    refused(lambda: reranker.score([nothing], Candidates([], [], []), gallery), "1 queries for 0 lists")


def test_options(name: str, tmp_path: Path) -> None:
    name = name.removesuffix("_bits")
    save_checkpoint(tmp_path / "file.safetensors", make(name).to_checkpoint())
    for precision, words in (("float16", "needs a GPU"), ("int8", "known: float32, bfloat16, float16")):
        with pytest.raises(UsageError, match=words):
            load_reranker(name, tmp_path / "file.safetensors", precision=precision)
    with pytest.raises(UsageError, match="heds"):
        load_reranker(name, tmp_path / "file.safetensors", heds=3)
    refused(lambda: load_reranker(name), "checkpoint")
    torch.save({"state": {"unrelated": torch.zeros(1)}}, tmp_path / "other.pt")
    refused(lambda: load_reranker(name, tmp_path / "other.pt"), f"not a checkpoint of {name}")


def test_a_network_learns_through_its_projection_of_locals() -> None:
    network = make("rrt").network.train()
    tokens = tokens_of(described(images("rrt", 0)), network.shape)
    network(tokens, tokens).sum().backward()
    assert network.remap_local.weight.grad.abs().sum() > 0
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
