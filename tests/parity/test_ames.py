"""AMES: official checkpoints of both variants and any descriptor width give the official logits, tokens and bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import parity_ledger
import pytest
import torch

from pipeline.rerank import load_reranker
from pipeline.rerank.ames.reranker import AMESReranker
from pipeline.types import Candidates, Description, LocalDescriptors

FOLDERS = parity_ledger.folders("ames_fp*") + parity_ledger.folders("ames_bin*")
CASES = [
    (folder, manifest.stem.removeprefix("manifest_"))
    for folder in FOLDERS
    for manifest in sorted((parity_ledger.folder_named(folder) or Path()).glob("manifest_*.json"))
] or [(folder, "none") for folder in FOLDERS]

Side = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case))
def case(request: pytest.FixtureRequest, official_folder: Callable[[str], Any]) -> tuple[Any, str]:
    """A folder of official numbers and the width of its descriptors as its names say it."""
    folder, width = request.param
    return official_folder(folder), width


@pytest.fixture(scope="module")
def load(case: tuple[Any, str], official_file: Callable[..., Path]) -> Callable[..., AMESReranker]:
    official, width = case
    file = official_file(official, "state", manifest=f"manifest_{width}.json")

    def made(**options: Any) -> AMESReranker:
        loaded = load_reranker("ames", file, heads=official.config["nhead"], **options)
        assert isinstance(loaded, AMESReranker)
        return loaded

    return made


def sides(case: tuple[Any, str]) -> tuple[Side, Side]:
    official, width = case

    def side(name: str) -> Side:
        rows = official.inputs[f"{name}_{width}"].astype(np.float32)
        return torch.from_numpy(rows), torch.from_numpy(official.inputs[f"{name}m_{width}"])

    return side("q"), side("t")


def test_sizes_are_read_off_the_checkpoint(case: tuple[Any, str], load: Callable[..., AMESReranker]) -> None:
    official, width = case
    shape, config = load().network.shape, official.config
    assert shape.local_dim == official.inputs[f"q_{width}"].shape[2]
    assert shape.model_dim == config["model_dim"]
    assert shape.layers == config["num_encoder_layers"]
    assert shape.feedforward == config["dim_feedforward"]
    assert shape.binarised == config["binarized"]
    assert shape.round_gallery == (not config["binarized"])


def test_logits_of_either_order(case: tuple[Any, str], load: Callable[..., AMESReranker]) -> None:
    official, width = case
    query, gallery = sides(case)
    reranker = load()
    official.agrees(f"logits_{width}", reranker.logits(*query, *gallery), atol=1e-5)
    official.agrees(f"logits_swapped_{width}", reranker.logits(*gallery, *query), atol=1e-5)


def test_the_switch_of_the_rounding(case: tuple[Any, str], load: Callable[..., AMESReranker]) -> None:
    official, width = case
    query, gallery = sides(case)
    name = f"logits_without_half_rounding_{width}"
    if official.has(name):
        official.agrees(name, load(round_gallery=False).logits(*query, *gallery), atol=1e-5)
    else:
        assert official.config["binarized"]
        plain = load(round_gallery=False).logits(*query, *gallery)
        torch.testing.assert_close(plain, load().logits(*query, *gallery), atol=0, rtol=0)


def test_projection_of_a_query(case: tuple[Any, str], load: Callable[..., AMESReranker]) -> None:
    official, width = case
    (query, _), _ = sides(case)
    official.agrees(f"remap_q_{width}_first_pair", load().project(query[0], gallery=False), atol=1e-5)
    if official.has(f"bits_q_{width}_pair0"):
        official.equals(f"bits_q_{width}_pair0", load().bits(query[0]).to(torch.int8))


def test_the_token_that_is_classified(case: tuple[Any, str], load: Callable[..., AMESReranker]) -> None:
    official, width = case
    reranker, seen = load(), []
    hook = reranker.network.classifier.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    query, gallery = sides(case)
    for row in range(len(query[0])):
        one = slice(row, row + 1)
        reranker.logits(query[0][one], query[1][one], gallery[0][one], gallery[1][one])
    hook.remove()
    # A value that another order of summing moves across a boundary of float16 shows here by up to 1.2e-5.
    official.agrees(f"tokens_{width}_token0", torch.cat(seen), atol=3e-5)


def test_scores_of_candidates(case: tuple[Any, str], load: Callable[..., AMESReranker]) -> None:
    official, width = case
    query, gallery = sides(case)
    temperature = 0.3
    reranker = load(temperature=temperature)
    rows = range(len(query[0]))

    class Gallery:
        def globals(self, ids: list[str]) -> np.ndarray:
            raise AssertionError("ames reads no globals")

        def locals(self, ids: list[str]) -> list[LocalDescriptors]:
            return [local(gallery, int(name)) for name in ids]

    def local(side: Side, row: int) -> LocalDescriptors:
        descriptors = side[0][row][~side[1][row]].numpy()
        count = len(descriptors)
        zeros = np.zeros((count, 2), np.float32)
        return LocalDescriptors(descriptors, zeros, np.ones(count, np.float32), np.ones(count, np.float32))

    names = [str(row) for row in rows]
    asked = [Description(np.zeros(1, np.float32), local(query, row)) for row in rows]
    candidates = Candidates(names, [names for _ in rows], [np.ones(len(names), np.float32) for _ in rows])
    found = reranker.score(asked, candidates, Gallery())
    own = np.array([values[row] for row, values in enumerate(found)])
    logits = official.outputs[f"logits_{width}"].astype(np.float64)
    np.testing.assert_allclose(own, 1 / (1 + np.exp(-temperature * logits)), atol=1e-5, rtol=0)
