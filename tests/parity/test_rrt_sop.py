"""Reranking Transformer for products: the official model's file gives the official logits of maps."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import parity_ledger
import pytest
import torch

from pipeline.rerank import load_reranker
from pipeline.rerank.rrt_sop.network import position_code
from pipeline.rerank.rrt_sop.reranker import RRTSOPReranker
from pipeline.types import Candidates, Description, LocalDescriptors


@pytest.fixture(scope="module", params=parity_ledger.folders("rrt_sop*"))
def official(request: pytest.FixtureRequest, official_folder: Callable[[str], Any]) -> Any:
    return official_folder(request.param)


@pytest.fixture(scope="module")
def reranker(official: Any, official_file: Callable[..., Path]) -> RRTSOPReranker:
    loaded = load_reranker("rrt_sop", official_file(official, "state"))
    assert isinstance(loaded, RRTSOPReranker)
    return loaded


def maps(official: Any, name: str) -> torch.Tensor:
    return torch.from_numpy(official.inputs[name])


def test_logits_of_either_order(reranker: RRTSOPReranker, official: Any) -> None:
    source, target = maps(official, "src_local"), maps(official, "tgt_local")
    official.agrees("logits", reranker.logits(source, target), atol=1e-5)
    official.agrees("logits_swapped", reranker.logits(target, source), atol=1e-5)


def test_position_codes_and_maps_that_are_not_square(reranker: RRTSOPReranker, official: Any) -> None:
    """A map of h x w pins which axis comes first."""
    for name in official.matching("pos_encoding_"):
        height, width = map(int, name.removeprefix("pos_encoding_").split("x"))
        official.agrees(name, position_code(height, width, reranker.network.shape.d_model), atol=1e-6)
    for name in official.matching("logits_"):
        found = re.fullmatch(r"logits_(\d+x\d+)_self", name)
        if found:
            own = maps(official, f"src_local_{found[1]}")
            official.agrees(name, reranker.logits(own, own), atol=1e-5)


def test_scores_of_candidates_described_cell_by_cell(reranker: RRTSOPReranker, official: Any) -> None:
    source, target = official.inputs["src_local"], official.inputs["tgt_local"]
    rng = np.random.default_rng(0)

    def described(grid: np.ndarray) -> LocalDescriptors:
        """In pixels of an original that is not square, and not in the order of the map."""
        count, (height, width) = grid[0].size, grid.shape[1:]
        rows, columns = np.divmod(np.arange(count), width)
        xy = np.stack([(columns + 0.5) * 640 / width, (rows + 0.5) * 333.25 / height], axis=1).astype(np.float32)
        order = rng.permutation(count)
        ones = np.ones(count, np.float32)
        return LocalDescriptors(grid.reshape(len(grid), count).T[order], xy[order], ones, ones)

    class Gallery:
        def globals(self, ids):
            raise AssertionError("rrt_sop reads no globals")

        def locals(self, ids):
            return [described(target[int(name)]) for name in ids]

    names = [str(row) for row in range(len(source))]
    queries = [Description(np.zeros(1, np.float32), described(grid)) for grid in source]
    candidates = Candidates(names, [[name] for name in names], [np.ones(1, np.float32) for _ in names])
    expected = 1 / (1 + np.exp(-official.outputs["logits"].astype(np.float64)))
    np.testing.assert_allclose(np.concatenate(reranker.score(queries, candidates, Gallery())), expected, atol=1e-5)
