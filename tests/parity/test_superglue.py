"""SuperGlue: an official file gives the official couplings, assignments, matches and scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import parity_ledger
import pytest
import torch
from keypoints import keypoints_of

from pipeline.rerank.matching.matchers import load_matcher
from pipeline.rerank.matching.superglue import SuperGlueMatcher
from pipeline.types import Keypoints


@pytest.fixture(scope="module", params=parity_ledger.folders("superglue*"))
def official(request: pytest.FixtureRequest, official_folder: Callable[[str], Any]) -> Any:
    return official_folder(request.param)


def loaded(official: Any, official_file: Callable[..., Path], case: str) -> SuperGlueMatcher:
    config = official.config["cases"][case]
    matcher = load_matcher(
        "superglue",
        "superpoint",
        official_file(official, None, manifest=f"manifest_{case}.json", multiply=config["multiply"]),
        accept_license=["superpoint"],
        threshold=config["match_threshold"],
        sinkhorn_iterations=config["sinkhorn_iterations"],
        heads=official.config["num_heads"],
    )
    assert isinstance(matcher, SuperGlueMatcher)
    assert matcher.network.shape.width == config["descriptor_dim"]
    assert list(matcher.network.shape.encoder) == config["keypoint_encoder"]
    # The kinds of the layers are not in the file: they take turns.
    kinds = ["cross" if number % 2 else "self" for number in range(matcher.network.shape.layers)]
    assert kinds == config["GNN_layers"]
    return matcher


def pair_of(official: Any, case: str) -> tuple[Keypoints, Keypoints]:
    def side(number: int) -> Keypoints:
        xy, descriptors, scores = (
            official.inputs[f"{case}_{name}{number}"] for name in ("keypoints", "descriptors", "scores")
        )
        return keypoints_of(xy, descriptors, official.config[f"size{number}"], scores)

    return side(0), side(1)


def test_matches_scores_and_assignments(official: Any, official_file: Callable[..., Path]) -> None:
    for case, config in official.config["cases"].items():
        matcher, pair = loaded(official, official_file, case), pair_of(official, case)
        # Among pairs of other lengths, as one padded batch.
        result = matcher.results([(pair[0].first(9), pair[1]), pair, (pair[1], pair[0])])[1]
        official.agrees(f"{case}_couplings", result.couplings, atol=1e-3)
        largest = result.couplings.abs().max()
        official.agrees(f"{case}_log_assignment", result.log_assignment, atol=2e-3 if largest > 100 else 5e-5)
        (found,) = matcher.match([pair])
        kept = result.scores > config["match_threshold"]
        assert found.rows.tolist() == torch.stack([result.rows, result.columns], dim=1)[kept].tolist()
        for side, (numbers, others) in enumerate([(result.rows, result.columns), (result.columns, result.rows)]):
            matches, scores = torch.full((len(pair[side]),), -1), torch.zeros(len(pair[side]))
            matches[numbers[kept]] = others[kept]
            scores[numbers] = result.scores
            official.equals(f"{case}_matches{side}", matches)
            official.agrees(f"{case}_matching_scores{side}", scores, atol=1e-4)
