"""Reranking Transformer for landmarks: an official checkpoint gives the official logits."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import parity_ledger
import pytest
import torch

from pipeline.catalog import load_catalog
from pipeline.rerank import load_reranker
from pipeline.rerank.image_rows import Ragged
from pipeline.rerank.pair_reranker import first_locals
from pipeline.rerank.rrt.network import SCALES, Tokens, scale_index
from pipeline.rerank.rrt.reranker import RRTReranker, tokens_of
from pipeline.types import Candidates, Description, LocalDescriptors


@pytest.fixture(scope="module", params=parity_ledger.folders("rrt_gld*"))
def official(request: pytest.FixtureRequest, official_folder: Callable[[str], Any]) -> Any:
    return official_folder(request.param)


@pytest.fixture(scope="module")
def load(official: Any, official_file: Callable[..., Path]) -> Callable[..., RRTReranker]:
    file = official_file(official, "state")

    def made(**options: Any) -> RRTReranker:
        loaded = load_reranker("rrt", file, heads=official.config["nhead"], **options)
        assert isinstance(loaded, RRTReranker)
        return loaded

    return made


@pytest.fixture(scope="module")
def reranker(load: Callable[..., RRTReranker]) -> RRTReranker:
    return load()


def side(inputs: Any, name: str, length: int | None = None) -> Tokens:
    cut = slice(None, length)
    return Tokens(
        torch.from_numpy(inputs[f"{name}_global"].astype(np.float32)),
        torch.from_numpy(inputs[f"{name}_local"].astype(np.float32))[:, cut],
        torch.from_numpy(inputs[f"{name}_scale_inds"].astype(np.int64))[:, cut],
        torch.from_numpy(inputs[f"{name}_mask"])[:, cut],
    )


def test_sizes_are_read_off_the_checkpoint(reranker: RRTReranker, official: Any) -> None:
    shape = reranker.network.shape
    config = official.config
    assert shape.d_global == config["d_global"]
    assert shape.d_model == config["d_model"]
    assert shape.layers == config["num_encoder_layers"]
    assert shape.feedforward == config["dim_feedforward"]
    assert shape.scale_rule == "official"
    assert shape.normalize
    assert not shape.projects


def test_logits(reranker: RRTReranker, official: Any) -> None:
    source, target = side(official.inputs, "src"), side(official.inputs, "tgt")
    official.agrees("logits", reranker.logits(source, target), atol=1e-5)
    official.agrees("logits_swapped", reranker.logits(target, source), atol=1e-5)


def test_padding_has_no_effect(reranker: RRTReranker, official: Any) -> None:
    noise = torch.Generator().manual_seed(0)

    def spoilt(name: str) -> Tokens:
        tokens = side(official.inputs, name)
        garbage = 5 * torch.randn(tokens.locals.shape, generator=noise)
        return dataclasses.replace(
            tokens,
            locals=torch.where(tokens.padding[..., None], garbage, tokens.locals),
            scale=torch.where(tokens.padding, len(SCALES) - 1, tokens.scale),
        )

    official.agrees("logits_garbage_in_padding", reranker.logits(spoilt("src"), spoilt("tgt")), atol=1e-5)
    with torch.inference_mode():  # as training calls it, with what stands in padding
        logits = reranker.network(spoilt("src"), spoilt("tgt"))
    official.agrees("logits_garbage_in_padding", logits, atol=1e-5)


def test_fewer_locals_and_the_switch_of_the_normalisation(load: Callable[..., RRTReranker], official: Any) -> None:
    names = official.matching("logits_len")
    assert names
    for name in names:
        found = re.fullmatch(r"logits_len(\d+)(_nonorm)?", name)
        assert found, name
        source, target = (side(official.inputs, which, int(found[1])) for which in ("src", "tgt"))
        official.agrees(name, load(normalize=found[2] is None).logits(source, target), atol=1e-5)


def test_tokens_of_every_layer(reranker: RRTReranker, official: Any) -> None:
    seen: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output[:, 0]))
        for layer in reranker.network.encoder.layers
    ]
    with torch.inference_mode():
        reranker.network(side(official.inputs, "src"), side(official.inputs, "tgt"))
    for hook in hooks:
        hook.remove()
    assert len(seen) == len(official.matching("layer"))
    for number, token in enumerate(seen):
        official.agrees(f"layer{number}_token0", token, atol=2e-5)


def test_one_by_one_equals_batched(reranker: RRTReranker, official: Any) -> None:
    source, target = side(official.inputs, "src"), side(official.inputs, "tgt")
    together = reranker.logits(source, target)
    alone = torch.cat([reranker.logits(source[row : row + 1], target[row : row + 1]) for row in range(len(together))])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)


def test_scale_index_rule(official: Any) -> None:
    values = official.inputs["scale_table_values_f32"]
    official.equals("scale_table_f64_official", scale_index(values, "official"))
    np.testing.assert_array_equal(scale_index(values, "nearest"), np.arange(len(values)))


def test_locals_become_tokens_as_in_the_official_data_set(load: Callable[..., RRTReranker], official: Any) -> None:
    names = data_set(official)
    length = len(official.outputs[f"dataset_{names[0]}_mask"])
    shape = load(locals=length).network.shape
    described = [official_description(official, name) for name in names]
    # One more image, with as many descriptors as the official data set pads to.
    longest = LocalDescriptors(
        np.ones((length, described[0].locals.descriptors.shape[1]), np.float32),
        np.ones((length, 2), np.float32),
        np.ones(length, np.float32),
        np.ones(length, np.float32),
    )
    tokens = tokens_of([*described, Description(described[0].vector, longest)], shape)
    for row, name in enumerate(names):
        official.equals(f"dataset_{name}_mask", tokens.padding[row])
        official.equals(f"dataset_{name}_scale_inds", tokens.scale[row])
        official.agrees(f"dataset_{name}_local_rowsum", tokens.locals[row].sum(dim=1), atol=1e-5)


def test_positions_and_labels_as_in_the_official_data_set(official: Any, tmp_path: Path) -> None:
    """The network reads neither. The positions tell that descriptors keep their places, the labels who is who."""
    names = data_set(official)
    manifest = tmp_path / "images.csv"
    manifest.write_text("path,label\n" + "".join(f"{name}.png,{name}\n" for name in names))
    for name in names:
        (tmp_path / f"{name}.png").write_bytes(b"")
    labels = [record.label for record in load_catalog(str(manifest)).records]
    numbers = np.unique(labels, return_inverse=True)[1]
    length = len(official.outputs[f"dataset_{names[0]}_mask"])
    images = [official_description(official, name) for name in names]
    width = official.config["d_model"]
    places = [first_locals(image, length, "rrt", width, geometry=True).xy for image in images]
    sizes = [official.inputs[f"dataset_{name}_wh"].astype(np.float32) for name in names]
    relative = [torch.from_numpy(xy / size) for xy, size in zip(places, sizes, strict=True)]
    relative.append(torch.ones(length, 2))
    ragged = Ragged(torch.cat(relative), torch.tensor([len(xy) for xy in relative]), torch.zeros(len(relative), 0))
    batch = ragged.batch(torch.arange(len(relative)))
    for row, name in enumerate(names):
        official.agrees(f"dataset_{name}_positions", batch.rows[row], atol=5e-7)
        official.equals(f"dataset_{name}_label", numbers[row])


def data_set(official: Any) -> list[str]:
    """Names of the images that the official data set was given."""
    masks = [name for name in official.matching("dataset_") if name.endswith("_mask")]
    return [name.removeprefix("dataset_").removesuffix("_mask") for name in masks]


def official_description(official: Any, name: str) -> Description:
    given = official.inputs
    return Description(
        np.zeros(official.config["d_global"], np.float32),
        LocalDescriptors(
            given[f"dataset_{name}_desc"],
            given[f"dataset_{name}_locations_yx"][:, ::-1].astype(np.float32),
            given[f"dataset_{name}_scales_f64_widened_from_f32"].astype(np.float32),
            given[f"dataset_{name}_attention"].astype(np.float32),
        ),
    )


def test_scores_of_candidates_are_the_probabilities_of_the_logits(reranker: RRTReranker, official: Any) -> None:
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

    expected = 1 / (1 + np.exp(-official.outputs["logits"].astype(np.float64)))
    rows = range(len(expected))
    queries = [Description(official.inputs["src_global"][row].astype(np.float32), local("src", row)) for row in rows]
    names = [str(row) for row in rows]
    candidates = Candidates(names, [[name] for name in names], [np.ones(1, np.float32) for _ in rows])
    found = reranker.score(queries, candidates, Gallery())
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-5, rtol=0)
