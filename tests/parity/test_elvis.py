"""ELViS: official checkpoints of any size give the official scores, bins and transports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import parity_ledger
import pytest
import torch

from pipeline.config import parse_config
from pipeline.describe.detector import Detector
from pipeline.describe.heads import GlobalHead
from pipeline.describe.network import DescriberNetwork
from pipeline.describe.network_pass import NetworkOutput, NetworkPass
from pipeline.rerank import load_reranker
from pipeline.rerank.elvis.reranker import ELViSReranker
from pipeline.types import Candidates, Description, LocalDescriptors

FOLDERS = parity_ledger.folders("elvis*")

Side = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module", params=FOLDERS)
def official(request: pytest.FixtureRequest, official_folder: Callable[[str], Any]) -> Any:
    return official_folder(request.param)


@pytest.fixture(scope="module")
def load(official: Any, official_file: Callable[..., Path]) -> Callable[..., ELViSReranker]:
    """The reranker of the official file; what its tensors do not tell is as in the folder's configuration."""
    file, config = official_file(official, "state"), official.config

    def made(**options: Any) -> ELViSReranker:
        own = {"iterations": config["sh_iter"], "sharpness": config["sh_temp"]}
        loaded = load_reranker("elvis", checkpoint=file, **(own | options))
        assert isinstance(loaded, ELViSReranker)
        return loaded

    return made


def sides(official: Any) -> tuple[Side, Side]:
    query, gallery = (
        (torch.from_numpy(official.inputs[name]), torch.from_numpy(official.inputs[f"{name}_mask"]))
        for name in ("query", "gallery")
    )
    return query, gallery


def first(side: Side) -> Side:
    return side[0][:1], side[1][:1]


def test_sizes_are_read_off_the_checkpoint(official: Any, load: Callable[..., ELViSReranker]) -> None:
    shape, config = load().network.shape, official.config
    sizes = (shape.local_dim, shape.model_dim, shape.embed_dim, shape.proj_dim)
    assert sizes == tuple(config[name] for name in ("local_dim", "model_dim", "embed_dim", "proj_dim"))
    assert shape.counts_padding


def test_every_size_of_file_loads(official: Any, official_file: Callable[..., Path]) -> None:
    for manifest in sorted(official.folder.glob("manifest*.json")):
        if manifest.name in ("manifest.json", "manifest_detector.json"):
            continue
        loaded = load_reranker("elvis", checkpoint=official_file(official, "state", manifest=manifest.name))
        assert isinstance(loaded, ELViSReranker)


def test_scores_and_transports(official: Any, load: Callable[..., ELViSReranker]) -> None:
    query, gallery = sides(official)
    whole = [(rows, torch.zeros_like(padding)) for rows, padding in (query, gallery)]
    reranker = load()
    cases = {
        "masked": (query, gallery, query, gallery),
        "unmasked": (*whole, *whole),
        "swapped": (gallery, query, first(gallery), first(query)),
        "one": (first(query), first(gallery), first(query), first(gallery)),
    }
    for name, (left, right, left_plan, right_plan) in cases.items():
        official.agrees(f"{name}_scores", reranker.scores(*left, *right), atol=1e-5)
        official.agrees(f"{name}_log_transport", reranker.log_transport(*left_plan, *right_plan), atol=1e-4)


def test_bins(official: Any, load: Callable[..., ELViSReranker]) -> None:
    query, gallery = sides(official)
    official.agrees("masked_query_bins", load().bins(query[0]), atol=1e-5)
    official.agrees("masked_gallery_bins", load().bins(gallery[0]), atol=1e-5)


def test_scores_of_candidates(official: Any, load: Callable[..., ELViSReranker]) -> None:
    """Images of fewer descriptors are padded to those that are compared, with zeros, as the authors' files are."""
    query, gallery = sides(official)
    temperature = 0.05
    counts = {"query_locals": query[0].shape[1], "gallery_locals": gallery[0].shape[1]}
    reranker = load(temperature=temperature, **counts)

    def local(side: Side, row: int) -> LocalDescriptors:
        descriptors = side[0][row][~side[1][row]].numpy()
        count = len(descriptors)
        ones = np.ones(count, np.float32)
        return LocalDescriptors(descriptors, np.zeros((count, 2), np.float32), ones, ones)

    class Gallery:
        def locals(self, ids: list[str]) -> list[LocalDescriptors]:
            return [local(gallery, int(name)) for name in ids]

    names = [str(row) for row in range(len(gallery[0]))]
    asked = [Description(np.zeros(1, np.float32), local(query, row)) for row in range(len(query[0]))]
    candidates = Candidates(names, [names for _ in asked], [np.ones(len(names), np.float32) for _ in asked])
    found = reranker.score(asked, candidates, Gallery())
    zeros = [(rows.masked_fill(padding.unsqueeze(2), 0), padding) for rows, padding in (query, gallery)]
    for row, values in enumerate(found):
        many = [part[row : row + 1].expand(len(names), *part.shape[1:]) for part in zeros[0]]
        expected = torch.sigmoid(temperature * reranker.scores(*many, *zeros[1]))
        np.testing.assert_allclose(values, expected, atol=1e-6, rtol=0)


class Maps(torch.nn.Module):
    """In the place of a transformer: its maps and class tokens are given; images say by their height which."""

    reductions, stages, probed_size = (14,), 1, None

    def __init__(self, given: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        super().__init__()
        self._given = {maps.shape[-2]: (maps, token) for maps, token in given}

    def with_class_token(
        self, images: torch.Tensor, taps: Any
    ) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
        maps, token = self._given[images.shape[-2]]
        return maps, [], token

    def forward(self, images: torch.Tensor, taps: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
        return self._given[images.shape[-2]][0], []

    def has_pre_relu(self, tap: Any) -> bool:
        return False


def passed(official: Any, detector: Detector | None, globals_: str, **chosen: Any) -> NetworkOutput:
    """What one pass of the network gives; the global descriptor is of the kind `globals_`."""
    scales = [float(number + 1) for number in range(len(official.config["hw"]))]
    given = [
        (torch.from_numpy(official.inputs[f"map{number}"]), torch.from_numpy(official.inputs[f"cls{number}"]))
        for number in range(len(scales))
    ]
    locals_ = {"count": official.config["topk"], "scales": scales, **chosen}
    config = parse_config(
        {"describe": {"globals": {"kind": globals_, "scales": scales}, "locals": locals_}}, "test"
    ).describe
    network = DescriberNetwork(Maps(given), GlobalHead(1.0, None, None))
    made = NetworkPass(network, config)
    made.detector = detector
    pictures = [(scale, torch.zeros(2, 3, *size)) for scale, size in zip(scales, official.config["hw"], strict=True)]
    return made.run(pictures, [])


@torch.inference_mode()
def test_selection_of_locals(official: Any, official_file: Callable[..., Path]) -> None:
    """The descriptor is the backbone's; the weight that of the detector, or the cosine to the class token."""
    detector = Detector.read(official_file(official, "state", manifest="manifest_detector.json"))
    ways: dict[str, tuple[Detector | None, dict[str, Any]]] = {
        "detector": (detector, {"kind": "detector", "descriptor": "backbone"}),
        "cls": (None, {"kind": "class_token"}),
    }
    sizes = torch.tensor(official.config["hw"])
    for name, (chooser, chosen) in ways.items():
        output = passed(official, chooser, "class_token", **chosen)
        cells = output.cells
        assert cells is not None
        official.agrees(f"{name}_descriptors", cells.features, atol=2e-6)
        official.agrees(f"{name}_weights", cells.weight, atol=2e-6)
        official.equals(f"{name}_scale", cells.scale)
        official.agrees(f"{name}_locations", cells.xy.flip(-1) / sizes[cells.scale], atol=2e-6)
        official.agrees(f"{name}_global_cls", output.vectors, atol=2e-6)
        # Without a detector what the authors call the original map is of unit length, and the other is not.
        unit, raw = ("w-avg", "og-avg") if chooser else ("og-avg", "w-avg")
        own = {**chosen, "descriptor": "detector"} if chooser else chosen
        official.agrees(f"{name}_global_{unit}", passed(official, chooser, "locals", **own).vectors, atol=2e-6)
        official.agrees(f"{name}_global_{raw}", passed(official, chooser, "weighted_map", **own).vectors, atol=2e-6)
