"""What `adapt` learns: whitening from pairs, the linear head, and the layer that a describer keeps it in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.describe import load_describer
from pipeline.describe.carried import carried_describer
from pipeline.describe.checkpoints import save_describer
from pipeline.describe.describer import NetworkDescriber
from pipeline.describe.exported import ExportedDescriber, ExportedSpec
from pipeline.describe.heads import GlobalHead
from pipeline.describe.network import network_to_train
from pipeline.describe.runtimes.registry import open_session
from pipeline.errors import RelookError
from pipeline.train.adaptation.group_pairs import Groups
from pipeline.train.adaptation.linear_head import far, pair_contrast, train_head
from pipeline.train.init.whitening import Whitening, pair_whitening, within_class_whitening
from pipeline.types import FloatArray


def photos(seed: int = 0, groups: int = 20, size: int = 4, width: int = 24) -> tuple[FloatArray, Groups]:
    """Groups whose photos differ along a few loud directions that say nothing of the group; each pair is verified."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(rng.standard_normal((groups, width)), size, axis=0)
    noise = np.zeros((groups * size, width))
    noise[:, :4] = 4 * rng.standard_normal((groups * size, 4))
    vectors = centres + noise + 0.3 * rng.standard_normal(noise.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    number = np.repeat(np.arange(groups), size)
    left, right = np.triu_indices(len(number), 1)
    same = number[left] == number[right]
    pairs = np.stack([left[same], right[same]], axis=1).astype(np.int64)
    return vectors.astype(np.float32), Groups(number, pairs, np.full(len(pairs), 30.0))


def nearest_is_right(vectors: FloatArray, number: np.ndarray) -> float:
    scores = vectors @ vectors.T / np.outer(*[np.linalg.norm(vectors, axis=1)] * 2)
    np.fill_diagonal(scores, -1)
    return float((number[scores.argmax(axis=1)] == number).mean())


def test_all_pairs_of_labels_whiten_as_the_labels_do() -> None:
    vectors, groups = photos()
    labels = [f"{number}" for number in groups.number]
    by_labels = within_class_whitening(vectors, labels, 12, 0.3).apply(vectors)
    by_pairs = pair_whitening(vectors, groups.pairs, np.ones(len(groups.pairs)), 12, 0.3).apply(vectors)
    # Of groups of one size the covariance of differences is that within labels, up to a factor.
    np.testing.assert_allclose(by_pairs @ by_pairs.T, by_labels @ by_labels.T, atol=1e-4)


def test_whitening_takes_away_what_differs_within_pairs() -> None:
    vectors, groups = photos()
    other, same = photos(seed=1)
    learnt = pair_whitening(vectors, groups.pairs, np.ones(len(groups.pairs)), 16, 0.1)
    assert nearest_is_right(learnt.apply(other), same.number) > nearest_is_right(other, same.number) + 0.3


def test_what_is_held_out_teaches_nothing() -> None:
    number = np.array([0, 0, 0, 1, 1, -1])
    pairs = np.array([(0, 1), (1, 2), (3, 4), (2, 5)])
    groups = Groups(number, pairs, np.array([30.0, 90.0, 10.0, 10.0]))
    assert groups.inside.tolist() == [True, True, True, False]
    assert groups.weights == pytest.approx([0.5, 0.75, 0.25, 0.25])
    left = groups.without(np.array([True, False, False, False, False, False]))
    assert left.number.tolist() == [-1, 0, 0, 1, 1, -1]
    assert left.pairs.tolist() == [[1, 2], [3, 4], [2, 5]]
    assert left.support.tolist() == [90.0, 10.0, 10.0]


def test_a_pair_that_a_person_tells_apart_is_pushed_however_near_it_is() -> None:
    vectors, groups = photos()
    start = Whitening(np.eye(12, 24, dtype=np.float32), np.zeros(12, np.float32))
    denied = np.array([[0, other] for other in np.argsort(-vectors[4:] @ vectors[0])[:8] + 4])

    def similarity(learnt: Whitening) -> float:
        mapped = learnt.apply(vectors)
        mapped /= np.linalg.norm(mapped, axis=1, keepdims=True)
        return float((mapped[denied[:, 1]] @ mapped[0]).mean())

    told = Groups(groups.number, groups.pairs, groups.support, denied)
    assert told.without(np.arange(len(vectors)) == 0).denied.tolist() == []
    assert similarity(train_head(vectors, told, start, 0)) < similarity(train_head(vectors, groups, start, 0)) - 0.003


def test_the_loss_is_that_of_a_plain_loop() -> None:
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 6, generator=draw)
    weights = torch.tensor([[0, 0.5, 0, 0.25, 0, 0], [0, 0, 1.0, 0, 0, 0], [0.5, 0, 0, 0, 0, 0]])
    others = torch.tensor([[0, 0, 1, 0, 1, 0], [1, 0, 0, 1, 0, 1], [0, 0, 0, 0, 0, 0]]) > 0
    expected = []
    for row in range(3):
        rest = sum(np.exp(float(scores[row, other])) for other in range(6) if others[row, other])
        each = [np.log(np.exp(float(s)) + rest) - float(s) for s in scores[row]]
        expected.append(np.average(each, weights=weights[row]))
    scores.requires_grad_(True)
    loss = pair_contrast(scores, weights, others)
    assert float(loss.detach()) == pytest.approx(np.mean(expected), rel=1e-5)
    loss.backward()
    # What is neither a positive nor another counts for nothing, nor does a photo that has no others.
    assert scores.grad is not None
    assert scores.grad[0].tolist()[0] == scores.grad[0].tolist()[5] == 0
    assert scores.grad[2].tolist() == [0] * 6


def test_near_photos_are_not_taken_for_others() -> None:
    similarity = torch.tensor([[1.0, 0.9, 0.2, 0.1], [0.3, 1.0, 0.4, 0.5]])
    assert far(similarity, 0.5).tolist() == [[False, False, True, True], [True, False, True, False]]
    assert far(similarity, 0.0).tolist() == [[False, True, True, True], [True, False, True, True]]


def test_the_head_is_better_than_its_start_and_the_same_each_time() -> None:
    vectors, groups = photos()
    other, same = photos(seed=1)
    start = Whitening(np.eye(12, 24, dtype=np.float32), np.zeros(12, np.float32))
    learnt = train_head(vectors, groups, start, 0)
    assert nearest_is_right(learnt.apply(other), same.number) > nearest_is_right(start.apply(other), same.number)
    np.testing.assert_array_equal(learnt.weight, train_head(vectors, groups, start, 0).weight)


# --- the layer in a describer -----------------------------------------------------------------------------------------


def adapted_describer(path: Path) -> tuple[NetworkDescriber, Path]:
    """The default describer, and its checkpoint with a layer of 8 values."""
    describer = load_describer("efficientnet_lite0", image={"size": 64}, locals={"count": 0})
    assert isinstance(describer, NetworkDescriber)
    plain = load_describer("efficientnet_lite0", image={"size": 64}, locals={"count": 0})
    layer = torch.nn.Linear(1280, 8)
    describer.network.head.adapted = layer
    save_describer(path, "efficientnet_lite0", describer.network, {})
    assert isinstance(plain, NetworkDescriber)
    return plain, path


def test_a_checkpoint_maps_the_whole_descriptor(tmp_path: Path) -> None:
    plain, path = adapted_describer(tmp_path / "mine.safetensors")
    loaded = load_describer("efficientnet_lite0", path, image={"size": 64}, locals={"count": 0})
    assert isinstance(loaded, NetworkDescriber)
    picture = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    before, after = (one.describe([one.prepare(picture)])[0].vector for one in (plain, loaded))
    layer = loaded.network.head.adapted
    assert layer is not None
    with torch.inference_mode():
        expected = functional.normalize(layer(torch.from_numpy(before)), dim=0)
    np.testing.assert_allclose(after, expected, atol=1e-5)
    assert loaded.card.dimension == 8
    assert loaded.card.fingerprint != plain.card.fingerprint


def test_an_index_carries_the_layer(tmp_path: Path) -> None:
    _, path = adapted_describer(tmp_path / "mine.safetensors")
    options = {"image": {"size": 64}, "globals": {"scales": [0.7071, 1.0]}, "locals": {"count": 0}}
    describer = load_describer("efficientnet_lite0", path, **options)
    assert isinstance(describer, NetworkDescriber)
    graph, spec = carried_describer(describer)
    session = open_session("onnxruntime", graph)
    carried = ExportedDescriber(describer.card, describer.fitted(), ExportedSpec.from_json(spec.to_json()), session)
    picture = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    wanted, found = (one.describe([one.prepare(picture)])[0].vector for one in (describer, carried))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    # An index from before the layer was kept goes on with the network.
    with pytest.raises(RelookError, match="lack the layer that relook adapt learnt"):
        ExportedDescriber(describer.card, {}, spec, session)


def test_an_adapted_describer_is_not_trained_further(tmp_path: Path) -> None:
    _, path = adapted_describer(tmp_path / "mine.safetensors")
    config = load_describer("efficientnet_lite0", path, locals={"count": 0})._config  # type: ignore[attr-defined]
    with pytest.raises(RelookError, match="an adapted describer is not trained further"):
        network_to_train(config, None, None, 0)


def test_bfloat16_does_not_reach_the_layer() -> None:
    head = GlobalHead(1.0, None, None)
    head.adapted = torch.nn.Linear(6, 3)
    vector = functional.normalize(torch.randn(2, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        inside = head.combine([vector])
    with torch.inference_mode():
        torch.testing.assert_close(inside, head.combine([vector]))
