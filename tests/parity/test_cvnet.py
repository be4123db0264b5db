"""CVNet: an official checkpoint gives the official descriptors, maps, correlations and scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity_ledger import folders

from pipeline.describe import load_describer
from pipeline.describe.backbones import Tap
from pipeline.describe.pooling import gem
from pipeline.rerank import load_reranker
from pipeline.types import Candidates, Description

# Measurement noise between two correct implementations is 2e-8 for descriptors and 5e-8 for scores.
DESCRIPTORS = 2e-6
SCORES = 2e-6


@contextmanager
def watched(modules: dict[str, torch.nn.Module]) -> Iterator[dict[str, torch.Tensor]]:
    """The last output of each module while the block runs."""
    seen: dict[str, torch.Tensor] = {}

    def watch(name: str) -> Any:
        return lambda module, inputs, output: seen.__setitem__(name, output)

    hooks = [module.register_forward_hook(watch(name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@pytest.fixture(scope="module", params=folders("cvnet_r[0-9]*"))
def official(request: pytest.FixtureRequest, official_folder: Any) -> Any:
    return official_folder(request.param)


@pytest.fixture(scope="module")
def checkpoint(official: Any, official_file: Callable[..., Path]) -> Path:
    return official_file(official, "model_state")


@pytest.fixture(scope="module")
def describer(official: Any, checkpoint: Path) -> Any:
    return load_describer(f"cvnet_r{official.config['depth']}", checkpoint)


@pytest.fixture(scope="module")
def one_scale(official: Any, checkpoint: Path) -> Any:
    return load_describer(f"cvnet_r{official.config['depth']}", checkpoint, globals={"scales": (1.0,)})


@pytest.fixture(scope="module")
def reranker(checkpoint: Path) -> Any:
    return load_reranker("cvnet", checkpoint)


@pytest.fixture(scope="module")
def described(official: Any, one_scale: Any) -> dict[str, Description]:
    """The images of all pairs, by name."""
    names = {name for pair in official.config["pairs"] for name in pair}
    return {name: one_scale.describe([one_scale.prepare(official.picture(name))])[0] for name in sorted(names)}


def test_descriptors_at_three_scales(official: Any, describer: Any) -> None:
    for name in official.config["images"]:
        found = describer.describe([describer.prepare(official.picture(name))])[0]
        official.agrees(f"global3_{name}", found.vector, atol=DESCRIPTORS)


def test_descriptors_at_one_scale(official: Any, one_scale: Any) -> None:
    for name in official.config["images"]:
        found = one_scale.describe([one_scale.prepare(official.picture(name))])[0]
        official.agrees(f"global1_{name}", found.vector, atol=DESCRIPTORS)


def test_a_query_is_cropped_to_its_box(official: Any, describer: Any, official_folder: Any) -> None:
    name = official.config["query_crop"]
    box = next(
        other.config["bbx"][name]
        for other in (official_folder(folder) for folder in folders("cvnet_preproc*"))
        if name in other.config["bbx"]
    )
    found = describer.describe([describer.prepare(official.picture(name), tuple(box))])[0]
    official.agrees(f"global3_query_{name}", found.vector, atol=DESCRIPTORS)


@torch.inference_mode()
def test_what_the_network_computes_on_the_way(official: Any, one_scale: Any) -> None:
    network = one_scale.network
    for name in official.config["images"]:
        images = one_scale.input.normalised([one_scale.prepare(official.picture(name))])
        taps = [*(Tap(stage) for stage in range(1, 5)), Tap(3, True)]
        with watched({"stem": network.backbone.model.maxpool}) as seen:
            final, maps = network.backbone(images, taps)
        official.stats(f"rawfc_{name}_stats", network.head.pool(final))
        if name not in official.config["intermediates_for"]:
            continue
        pooled = gem(final, float(network.head.p))[..., None, None]
        steps = {**seen, **{f"s{n}": m for n, m in enumerate(maps[:4], 1)}, "pool": pooled}
        for step, value in {**steps, "s3_prerelu": maps[4]}.items():
            official.stats(f"{step}_{name}_stats", value, rtol=2e-5)
            official.equals(f"{step}_{name}_shape", np.array(value.shape))
            official.agrees(f"{step}_{name}_first64", value.flatten()[:64], atol=2e-5)


def test_scores_of_pairs(official: Any, described: dict[str, Description], reranker: Any) -> None:
    for query, key in official.config["pairs"]:
        found = reranker.probabilities(described[query].maps, [described[key].maps])
        official.agrees(f"score_{query}_{key}", found[0], atol=SCORES)


@torch.inference_mode()
def test_correlations_blocks_and_logits(official: Any, described: dict[str, Description], reranker: Any) -> None:
    learner = reranker.learner
    for query, key in official.config["pairs"]:
        asked = reranker.expanded([described[query].maps])[0]
        other = reranker.expanded([described[key].maps])
        # [B, hq, wq, L * L, hk, wk] to the official [B, L * L, hq, wq, hk, wk].
        volume = learner.correlations(asked, other)
        pair = f"{query}_{key}"
        official.stats(f"corr_{pair}_stats", volume)
        official.equals(f"corr_{pair}_shape", np.array(volume.shape))
        official.agrees(f"corr_{pair}_chan_mean", volume[0].flatten(1).mean(dim=1), atol=SCORES)
        official.agrees(f"corr_{pair}_first64", volume.flatten()[:64], atol=SCORES)
        with watched({f"block{number}": getattr(learner, f"block{number}")[-1] for number in range(1, 5)}) as seen:
            official.agrees(f"logits_{pair}", learner(asked, other)[0], atol=1e-5)
        for block, value in seen.items():
            official.stats(f"{block}_{pair}_stats", value)
            official.equals(f"{block}_{pair}_shape", np.array(value.shape))


def test_candidates_together_score_as_alone(official: Any, described: dict[str, Description], reranker: Any) -> None:
    """Images of several sizes, in one call, some of them twice."""
    names = sorted(described) * 2
    query = described[official.config["pairs"][0][0]]

    class Gallery:
        def maps(self, ids):
            return [described[name].maps for name in ids]

    together = reranker.score([query], Candidates(["q"], [names], [np.ones(len(names), np.float32)]), Gallery())[0]
    alone = [reranker.probabilities(query.maps, [described[name].maps])[0] for name in names]
    np.testing.assert_allclose(together, alone, atol=1e-5, rtol=0)


def test_the_other_spelling_of_the_keys_loads_as_well(
    official: Any, official_file: Callable[..., Path], describer: Any
) -> None:
    renamed = official_file(official, "model_state", rename=lambda key: key.replace("encoder_q", "globalmodel"))
    other = load_describer(f"cvnet_r{official.config['depth']}", renamed)
    assert other.card.fingerprint == describer.card.fingerprint
