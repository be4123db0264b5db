"""LightGlue: an official file gives the official matches, scores, assignments, stops and counts of pruning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import parity_ledger
import pytest
import torch
from keypoints import keypoints_of

from pipeline.rerank.matching.lightglue import LightGlueMatcher
from pipeline.rerank.matching.lightglue_network import PairResult
from pipeline.rerank.matching.matchers import load_matcher
from pipeline.types import Keypoints

Load = Callable[..., LightGlueMatcher]


@pytest.fixture(scope="module", params=parity_ledger.folders("lightglue*"))
def official(request: pytest.FixtureRequest, official_folder: Callable[[str], Any]) -> Any:
    return official_folder(request.param)


@pytest.fixture(scope="module", params=["names of the code", "names of the released files", "below a prefix"])
def load(request: pytest.FixtureRequest, official: Any, official_file: Callable[..., Path]) -> Load:
    """A matcher of one of the sizes, from its file."""

    def rename(key: str) -> str:
        _, _, rest = key.partition("transformers.")
        if request.param != "names of the code" and rest:
            number, block, rest = rest.split(".", 2)
            key = f"{block}.{number}.{rest}"
        return f"matcher.{key}" if request.param == "below a prefix" else key

    files: dict[str, Path] = {}

    def made(case: str, **options: Any) -> LightGlueMatcher:
        config = official.config["defaults"] | official.config["cases"][case]
        size = config["inputs"]
        if size not in files:
            files[size] = official_file(official, None, manifest=f"manifest_{size}.json", rename=rename)
        options = {
            "threshold": config["filter_threshold"],
            "depth_confidence": config["depth_confidence"],
            "width_confidence": config["width_confidence"],
            "positions": "image" if config["image_size"] else "points",
            **options,
        }
        features = "sift" if config["add_scale_ori"] else "superpoint"
        matcher = load_matcher("lightglue", features, files[size], **options)
        assert isinstance(matcher, LightGlueMatcher)
        return matcher

    return made


def pair_of(official: Any, size: str) -> tuple[Keypoints, Keypoints]:
    def side(number: int) -> Keypoints:
        parts = {name: official.inputs.get(f"{size}_{name}{number}") for name in ("scales", "oris")}
        xy, descriptors = (official.inputs[f"{size}_{name}{number}"] for name in ("keypoints", "descriptors"))
        return keypoints_of(
            xy, descriptors, official.config[f"size{number}"], scale=parts["scales"], orientation=parts["oris"]
        )

    return side(0), side(1)


def cases(official: Any) -> Iterator[tuple[str, str]]:
    """Names of the cases, and whose inputs each has."""
    for case, config in official.config["cases"].items():
        yield case, config["inputs"]


def test_sizes_are_read_off_the_file(official: Any, load: Load) -> None:
    for case, size in cases(official):
        config = official.config["defaults"] | official.config["cases"][case]
        network = load(case).network
        assert network.shape.input_dim == config["input_dim"]
        assert network.shape.width == config["descriptor_dim"]
        assert network.shape.layers == config["n_layers"]
        assert network.shape.heads == config["num_heads"]
        assert network.shape.oriented == config["add_scale_ori"]
        thresholds = np.array(network.confidence_thresholds()).astype(np.float32)
        official.equals(f"{size}_confidence_thresholds", thresholds)


def test_results(official: Any, load: Load) -> None:
    for case, size in cases(official):
        matcher, pair = load(case), pair_of(official, size)
        (result,) = matcher.results([pair])
        threshold = (official.config["defaults"] | official.config["cases"][case])["filter_threshold"]
        compare(official, case, result, threshold, tuple(map(len, pair)))
        if official.has(f"{case}_log_assignment"):
            assert result.log_assignment is not None
            official.agrees(f"{case}_log_assignment", result.log_assignment, atol=1e-4, rtol=1e-4)


def compare(official: Any, case: str, result: PairResult, threshold: float, counts: tuple[int, ...]) -> None:
    official.equals(f"{case}_stop", result.stop)
    kept = result.scores > threshold
    for side, numbers, others in ((0, result.rows, result.columns), (1, result.columns, result.rows)):
        matches = torch.full((counts[side],), -1)
        matches[numbers[kept]] = others[kept]
        official.equals(f"{case}_matches{side}", matches)
        scores = torch.zeros(counts[side])
        scores[numbers] = result.scores
        official.agrees(f"{case}_matching_scores{side}", scores, atol=5e-5)
        official.equals(f"{case}_prune{side}", result.survived[side])


def test_matches(official: Any, load: Load) -> None:
    for case, size in cases(official):
        pair = pair_of(official, size)
        # Among others, of other lengths: all cases but the empty ones are a batch.
        others = [(pair[0].first(7), pair[1]), pair, (pair[1], pair[1].first(20)), (pair[0].first(0), pair[1])]
        found = load(case, batch_size=3).match(others)[1]
        official.equals(f"{case}_matches", found.rows)
        official.agrees(f"{case}_scores", found.scores, atol=5e-5)
