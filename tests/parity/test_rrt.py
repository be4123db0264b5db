"""Reranking Transformer for landmarks: an official checkpoint gives the official logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.rerank import load_reranker
from pipeline.rerank.rrt import RRTReranker, tokens_of
from pipeline.rerank.rrt_network import RRTShape, Tokens, scale_index
from pipeline.types import Candidates, Description, LocalDescriptors


@pytest.fixture
def official(fixture_folder: Callable[[str], SimpleNamespace]) -> SimpleNamespace:
    return fixture_folder("rrt_gld")


@pytest.fixture
def reranker(official: SimpleNamespace, official_file: Callable[..., Path]) -> RRTReranker:
    loaded = load_reranker(
        "rrt", official_file(official.folder / "manifest.json", "state"), heads=official.config["nhead"]
    )
    assert isinstance(loaded, RRTReranker)
    return loaded


def side(inputs: np.lib.npyio.NpzFile, name: str, length: int | None = None) -> Tokens:
    cut = slice(None, length)
    return Tokens(
        torch.from_numpy(inputs[f"{name}_global"].astype(np.float32)),
        torch.from_numpy(inputs[f"{name}_local"].astype(np.float32))[:, cut],
        torch.from_numpy(inputs[f"{name}_scale_inds"].astype(np.int64))[:, cut],
        torch.from_numpy(inputs[f"{name}_mask"])[:, cut],
    )


def test_sizes_are_read_off_the_checkpoint(reranker: RRTReranker, official: SimpleNamespace) -> None:
    shape = reranker.network.shape
    config = official.config
    assert shape.d_global == config["d_global"]
    assert shape.d_model == config["d_model"]
    assert shape.layers == config["num_encoder_layers"]
    assert shape.feedforward == config["dim_feedforward"]
    assert shape.scale_rule == "official"


def test_logits(reranker: RRTReranker, official: SimpleNamespace) -> None:
    source, target = side(official.inputs, "src"), side(official.inputs, "tgt")
    expected = official.outputs
    np.testing.assert_allclose(reranker.logits(source, target), expected["logits"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(reranker.logits(target, source), expected["logits_swapped"], atol=1e-5, rtol=0)


def test_padding_has_no_effect(reranker: RRTReranker, official: SimpleNamespace) -> None:
    source, target = side(official.inputs, "src"), side(official.inputs, "tgt")
    noise = torch.randn(target.locals.shape, generator=torch.Generator().manual_seed(0)) * 5
    spoilt = dataclasses.replace(target, locals=torch.where(target.padding[..., None], noise, target.locals))
    expected = official.outputs["logits_garbage_in_padding"]
    np.testing.assert_allclose(reranker.logits(source, spoilt), expected, atol=1e-5, rtol=0)


def test_fewer_locals(reranker: RRTReranker, official: SimpleNamespace) -> None:
    logits = reranker.logits(side(official.inputs, "src", 40), side(official.inputs, "tgt", 40))
    np.testing.assert_allclose(logits, official.outputs["logits_len40"], atol=1e-5, rtol=0)


def test_tokens_of_every_layer(reranker: RRTReranker, official: SimpleNamespace) -> None:
    seen: list[torch.Tensor] = []
    for layer in reranker.network.encoder.layers:
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output[:, 0]))
    with torch.inference_mode():
        reranker.network(side(official.inputs, "src"), side(official.inputs, "tgt"))
    for number, token in enumerate(seen):
        expected = official.outputs[f"layer{number}_token0"]
        np.testing.assert_allclose(token.numpy(), expected, atol=2e-5, rtol=0)


def test_one_by_one_equals_batched(reranker: RRTReranker, official: SimpleNamespace) -> None:
    source, target = side(official.inputs, "src"), side(official.inputs, "tgt")
    together = reranker.logits(source, target)
    alone = torch.cat([reranker.logits(source[row : row + 1], target[row : row + 1]) for row in range(len(together))])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)


def test_scale_index_rule(official: SimpleNamespace) -> None:
    values = official.inputs["scale_table_values_f32"]
    np.testing.assert_array_equal(scale_index(values, "official"), official.outputs["scale_table_f64_official"])
    np.testing.assert_array_equal(scale_index(values, "nearest"), np.arange(len(values)))


@pytest.mark.parametrize("name", ["a", "b"])
def test_locals_become_tokens_as_in_the_official_data_set(official: SimpleNamespace, name: str) -> None:
    given, expected = official.inputs, official.outputs
    length = len(expected[f"dataset_{name}_mask"])
    scale = given[f"dataset_{name}_scales_f64_widened_from_f32"].astype(np.float32)[:length]
    descriptors = given[f"dataset_{name}_desc"][:length]
    xy = given[f"dataset_{name}_locations_yx"][:length, ::-1].astype(np.float32)
    weight = given[f"dataset_{name}_attention"][:length].astype(np.float32)
    description = Description(np.zeros(4, np.float32), LocalDescriptors(descriptors, xy, scale, weight))
    tokens = tokens_of([description], RRTShape())
    count = len(descriptors)
    np.testing.assert_array_equal(tokens.scale[0], expected[f"dataset_{name}_scale_inds"][:count])
    assert not expected[f"dataset_{name}_mask"][:count].any()
    assert expected[f"dataset_{name}_mask"][count:].all()
    sums = tokens.locals[0].sum(dim=1)
    np.testing.assert_allclose(sums, expected[f"dataset_{name}_local_rowsum"][:count], atol=1e-5, rtol=0)


def test_scores_of_candidates_are_the_probabilities_of_the_logits(
    reranker: RRTReranker, official: SimpleNamespace
) -> None:
    class Gallery:
        def globals(self, ids):
            return np.stack([official.inputs["tgt_global"][int(name)].astype(np.float32) for name in ids])

        def locals(self, ids):
            return [local("tgt", int(name)) for name in ids]

    def local(name: str, row: int) -> LocalDescriptors:
        valid = ~official.inputs[f"{name}_mask"][row]
        table = official.inputs["scale_table_values_f32"]
        # Indices of the fixture come from the official rule: name a scale that the rule sends there.
        by_index = {int(index): table[place] for place, index in enumerate(scale_index(table, "official"))}
        indices = official.inputs[f"{name}_scale_inds"][row][valid]
        scale = np.array([by_index.get(int(index), table[int(index)] * 1.01) for index in indices], np.float32)
        descriptors = official.inputs[f"{name}_local"][row][valid].astype(np.float32)
        count = len(descriptors)
        return LocalDescriptors(descriptors, np.zeros((count, 2), np.float32), scale, np.ones(count, np.float32))

    rows = range(len(official.outputs["logits"]))
    queries = [Description(official.inputs["src_global"][row].astype(np.float32), local("src", row)) for row in rows]
    ids = [[str(row)] for row in rows]
    found = reranker.score(
        queries, Candidates([str(row) for row in rows], ids, [np.ones(1, np.float32)] * 6), Gallery()
    )
    expected = 1 / (1 + np.exp(-official.outputs["logits"].astype(np.float64)))
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-5, rtol=0)
