"""RRT's product network end to end: an official checkpoint gives the official inputs, descriptors, maps and logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity_ledger import folders

from pipeline.describe import load_describer
from pipeline.rerank import load_reranker
from pipeline.stages.convert import convert
from pipeline.types import Candidates


@pytest.fixture(scope="module", params=folders("rrt_sop*"))
def official(request: pytest.FixtureRequest, official_folder: Any) -> Any:
    return official_folder(request.param)


@pytest.fixture(scope="module", params=["state", None])
def checkpoint(request: pytest.FixtureRequest, official: Any, official_file: Callable[..., Path]) -> Path:
    return official_file(official, request.param)


@pytest.fixture(scope="module")
def describer(checkpoint: Path) -> Any:
    return load_describer("sop_r50", checkpoint)


def test_inputs_are_the_official_pixels(official: Any, describer: Any) -> None:
    for name in official.config["images"]:
        official.equals(f"input_{name}_uint8_chw", describer.prepare(official.picture(name)).pixels[0])


@torch.inference_mode()
def test_descriptors_and_what_leads_to_them(official: Any, describer: Any) -> None:
    network = describer.network
    for name in official.config["images"]:
        prepared = describer.prepare(official.picture(name))
        found = describer.describe([prepared])[0]
        official.agrees(f"global_{name}", found.vector, atol=2e-6)
        side = official.outputs[f"local_{name}"].shape[1:]
        official.agrees(f"local_{name}", found.locals.descriptors.T.reshape(-1, *side), atol=1e-5)
        final, _ = network.backbone(describer.input.normalised([prepared]))
        official.stats(f"backbone_layer4_{name}_stats", final)
        official.stats(f"backbone_avgpool_{name}_stats", final.mean(dim=(2, 3)))
        logits = network.classifier(torch.from_numpy(found.vector))
        official.agrees(f"classifier_logits_{name}_first64", logits[:64], atol=1e-5)


def test_a_pair_of_images_end_to_end(official: Any, checkpoint: Path, describer: Any) -> None:
    reranker = load_reranker("rrt_sop", checkpoint)
    reranker.check(describer.card)
    described = {
        name: describer.describe([describer.prepare(official.picture(name))])[0] for name in official.config["images"]
    }

    class Gallery:
        def locals(self, ids):
            return [described[name].locals for name in ids]

    for name in official.matching("logits_image_pair_"):
        query, key = (image for image in _pair(name, list(described)))
        asked = Candidates(["q"], [[key]], [np.ones(1, np.float32)])
        score = reranker.score([described[query]], asked, Gallery())[0].astype(np.float64)
        official.agrees(name, np.log(score / (1 - score)), atol=1e-5)


def test_the_converted_file_holds_describer_and_reranker(checkpoint: Path, describer: Any, tmp_path: Path) -> None:
    own = tmp_path / "sop.safetensors"
    assert convert(checkpoint, own).name == "sop_r50"
    assert load_describer("sop_r50", own).card == describer.card
    before, after = (load_reranker("rrt_sop", file).network.state_dict() for file in (checkpoint, own))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def _pair(name: str, images: list[str]) -> tuple[str, str]:
    rest = name.removeprefix("logits_image_pair_")
    return next((a, b) for a in images for b in images if rest == f"{a}_{b}")
