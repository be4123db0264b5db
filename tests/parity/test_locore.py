"""LoCoRe: official checkpoints of every variant give the official logits and scores, and its windows the rankings."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import parity_ledger
import pytest
import torch
from safetensors.torch import save_file

from pipeline.evaluate import RevisitedTruth, by_revisited
from pipeline.rerank import RerankStep, apply_chain, load_reranker
from pipeline.rerank.locore.network import ImageLists, LoCoReNetwork, aggregate
from pipeline.rerank.locore.reranker import LoCoReReranker
from pipeline.rerank.locore.shape import LoCoReShape, shape_of
from pipeline.types import Candidates, Description, LocalDescriptors, ModelCard, Ranking

FOLDERS = parity_ledger.folders("locore")
PIPELINES = parity_ledger.folders("locore_pipeline")
CASES = [
    (folder, manifest.stem.removeprefix("manifest_"))
    for folder in FOLDERS
    for manifest in sorted((parity_ledger.folder_named(folder) or Path()).glob("manifest_*.json"))
    if manifest.stem != "manifest_size_of_release"
] or [(folder, "none") for folder in FOLDERS]
SETUPS = {"medium": "M", "hard": "H"}
MODES = ("max-start", "max-end", "max-sum", "max-prod")
# What the numbers of an extraction's scales stand for in a list of three.
SCALES = (0.7071, 1.0, 1.4142)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case))
def case(request: pytest.FixtureRequest, official_folder: Callable[[str], Any]) -> tuple[Any, str]:
    folder, name = request.param
    return official_folder(folder), name


@pytest.fixture(scope="module")
def load(case: tuple[Any, str], official_file: Callable[..., Path], tmp_path_factory: Any) -> Any:
    """The public loader on a released file: a safetensors file with the official keys."""
    official, name = case
    pickled = official_file(official, None, manifest=f"manifest_{name}.json")
    file = tmp_path_factory.mktemp("locore") / "model.safetensors"
    save_file(torch.load(pickled, weights_only=True), file)
    config, own = official.config, official.config["cases"][name]

    def made(**options: Any) -> LoCoReReranker:
        loaded = load_reranker(
            "locore",
            file,
            heads=config["heads"],
            attention_window=config["window"],
            positions=own["pos_type"],
            query_global=own["query_global_attention"],
            global_token=own["with_global"],
            locals=inputs_of(case)[0].shape[1],
            window=config["gallery"],
            **options,
        )
        assert isinstance(loaded, LoCoReReranker)
        return loaded

    return made


def inputs_of(case: tuple[Any, str]) -> tuple[np.ndarray, ...]:
    """The query's and the gallery's local descriptors, scales and masks."""
    official, name = case
    start = official.config["cases"][name]["inputs"]
    parts = ("local_features", "local_scales", "local_mask")
    return tuple(official.inputs[f"{start}_{side}_{part}"] for part in parts for side in ("query", "gallery"))


def lists_of(case: tuple[Any, str]) -> ImageLists:
    official, name = case
    own = official.config["cases"][name]
    rows = [torch.from_numpy(values) for values in inputs_of(case)]
    local, scale, mask = (torch.cat([rows[at][:, None], rows[at + 1]], dim=1) for at in (0, 2, 4))
    whole = None
    if own["with_global"]:
        start = f"{own['inputs']}_{{}}_global_features"
        query, gallery = (torch.from_numpy(official.inputs[start.format(side)]) for side in ("query", "gallery"))
        whole = torch.cat([query, gallery[:, :, 0]], dim=1)
    return ImageLists(local, scale, mask.bool(), whole)


def test_sizes_are_read_off_the_checkpoint(case: tuple[Any, str], load: Callable[..., LoCoReReranker]) -> None:
    official, name = case
    shape, config, own = load().network.shape, official.config, official.config["cases"][name]
    assert (shape.width, shape.layers, shape.feedforward) == (config["hidden"], config["layers"], config["ff"])
    assert (shape.positions, shape.scales) == (config["max_pos"], config["num_scales"])
    assert shape.d_local == own["local_dim"]
    assert shape.bottleneck == own.get("bottleneck_dim")
    assert shape.project_local == (own["local_dim"] != config["hidden"] or own.get("force_linear", False))


def test_token_logits(case: tuple[Any, str], load: Callable[..., LoCoReReranker]) -> None:
    official, name = case
    reranker, lists = load(), lists_of(case)
    official.agrees(f"{name}_token_logits", reranker.token_logits(lists), atol=1e-5)
    if official.has(f"{name}_hidden"):
        with torch.inference_mode():
            official.agrees(f"{name}_hidden", reranker.network.hidden(lists), atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_scores_of_candidates(case: tuple[Any, str], load: Callable[..., LoCoReReranker], mode: Any) -> None:
    official, name = case
    reranker, lists = load(aggregation=mode), lists_of(case)
    for kind, softmax in (("raw", False), ("softmax", True)):
        found = reranker.local_logits(lists, softmax)
        tolerance = {"atol": 1e-7, "rtol": 1e-3} if mode == "max-prod" else {"atol": 2e-5}
        official.agrees(f"{name}_{kind}_{mode}", found, **tolerance)
        # One token of each candidate in the last layer, or all of the sequence: the same.
        logits = reranker.token_logits(lists)
        values = (logits.softmax(dim=2) if softmax else logits)[..., 1]
        tokens = reranker.network.candidate_tokens(found.shape[1])
        torch.testing.assert_close(aggregate(values[:, tokens], mode), found, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("folder", FOLDERS)
def test_keys_of_the_released_size(folder: str, official_folder: Callable[[str], Any]) -> None:
    """The network of the default sizes has the keys and shapes of the released one; an extra buffer does no harm."""
    manifest = json.loads((official_folder(folder).folder / "manifest_size_of_release.json").read_text())
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape in manifest.items()}
        network = LoCoReNetwork(LoCoReShape())
        assert shape_of(state) == LoCoReShape()
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == manifest


def test_an_older_file_with_the_buffer_of_positions(
    case: tuple[Any, str], load: Callable[..., LoCoReReranker], tmp_path: Path
) -> None:
    reranker = load()
    state = {**reranker.network.state_dict(), "language_model.longformer.embeddings.position_ids": torch.arange(5)}
    save_file(state, tmp_path / "model.safetensors")
    sizes = {"heads": reranker.network.shape.heads, "locals": 1, "window": 5}
    again = load_reranker("locore", tmp_path / "model.safetensors", **sizes)
    assert isinstance(again, LoCoReReranker)
    torch.testing.assert_close(dict(again.network.state_dict()), dict(reranker.network.state_dict()))


class Files:
    """The descriptors of a pipeline's files, by the rows of images."""

    def __init__(self, official: Any) -> None:
        self.official, self.count = official, official.config["num_descriptors"]

    def globals(self, ids: Sequence[str]) -> np.ndarray:
        return self.official.inputs["gallery_global"][[int(name) for name in ids]].astype(np.float32)

    def locals(self, ids: Sequence[str]) -> list[LocalDescriptors]:
        return [self.local("gallery", int(name)) for name in ids]

    def queries(self) -> list[Description]:
        vectors = self.official.inputs["query_global"].astype(np.float32)
        return [Description(vector, self.local("query", row)) for row, vector in enumerate(vectors)]

    def with_padding(self, images: Sequence[Description], lists: ImageLists) -> ImageLists:
        """The scales of these files' padding rows, whose tokens count too; an extraction leaves them at 0."""
        for place, image in enumerate(images):
            side = "gallery" if place else "query"
            row = int((self.official.inputs[f"{side}_global"].astype(np.float32) == image.vector).all(axis=1).argmax())
            meta = self.official.inputs[f"{side}_rows_meta"][row, : self.count]
            lists.scale[0, place] = torch.where(
                lists.padding[0, place], torch.from_numpy(meta[:, 2].astype(np.int64)), lists.scale[0, place]
            )
        return lists

    def local(self, side: str, row: int) -> LocalDescriptors:
        meta = self.official.inputs[f"{side}_rows_meta"][row, : self.count]
        there = meta[:, 3] == 0
        descriptors = self.official.inputs[f"{side}_rows_descriptors"][row, : self.count][there].astype(np.float32)
        scale = (1 / np.array(SCALES))[meta[there, 2].astype(int)].astype(np.float32)
        return LocalDescriptors(descriptors, meta[there, :2], scale, meta[there, 4])

    @property
    def card(self) -> ModelCard:
        config = self.official.config
        settings = {"locals": {"count": self.count, "scales": list(SCALES)}}
        return ModelCard("files", "files", "sha256:0", settings, "", config["global_dim"], config["local_dim"])


@pytest.fixture(scope="module", params=PIPELINES)
def files(request: pytest.FixtureRequest, official_folder: Callable[[str], Any]) -> Files:
    return Files(official_folder(request.param))


@pytest.fixture
def opened(
    files: Files, official_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., LoCoReReranker]:
    config = files.official.config
    file = official_file(files.official, None)

    def made(**options: Any) -> LoCoReReranker:
        options = {"heads": config["heads"], "attention_window": config["window"], **options}
        made = load_reranker(
            "locore", file, locals=files.count, window=config["topk"], temperature=config["temp"], **options
        )
        assert isinstance(made, LoCoReReranker)
        bound = made.bind(files.card)
        plain = bound.lists_of
        monkeypatch.setattr(bound, "lists_of", lambda images: files.with_padding(images, plain(images)))
        return bound

    return made


def ranked(files: Files, reranker: LoCoReReranker, setup: str, top: int) -> tuple[list[Ranking], list[RevisitedTruth]]:
    """The chain on the official lists, what a setup ignores at their end."""
    inputs, config = files.official.inputs, files.official.config
    grades = ("easy", "hard", "junk")
    truths = [RevisitedTruth(*(inputs[f"gnd{query}_{grade}"] for grade in grades)) for query in range(config["nq"])]
    ids, scores = [], []
    for similarity, ranking, truth in zip(*inputs["cache_nn"], truths, strict=True):
        order = np.argsort(np.isin(ranking, truth.ignored(setup)), kind="stable")
        ids.append([str(int(row)) for row in ranking[order]])
        scores.append(similarity[order])
    candidates = Candidates([str(query) for query in range(len(ids))], ids, scores)
    step = RerankStep("locore", reranker, top, config["alpha"])
    return apply_chain([step], files.queries(), candidates, files), truths


def check(files: Files, name: str, rankings: list[Ranking], truths: list[RevisitedTruth]) -> None:
    rows = np.array([[int(one) for one in ranking.ids] for ranking in rankings])
    files.official.equals(f"{name}_ranks", rows.T)
    means = [100 * by_revisited(rows, truths, setup).means()["mAP"] for setup in "EMH"]
    files.official.agrees(f"{name}_map", means, atol=1e-3)


@pytest.mark.parametrize("name", SETUPS)
@pytest.mark.parametrize("mode", ["max-start", "max-end", "max-sum"])
def test_rankings_of_one_pass(files: Files, opened: Callable[..., LoCoReReranker], mode: str, name: str) -> None:
    top = files.official.config["topk"]
    rankings, truths = ranked(files, opened(aggregation=mode), SETUPS[name], top)
    check(files, f"once_{mode}_{name}", rankings, truths)
    found = []
    for ranking in rankings:
        scores = ranking.explanation["locore"].astype(np.float64)[np.argsort(ranking.explanation["global_rank"])][:top]
        found.append(np.log(scores / (1 - scores)) / files.official.config["temp"])
    # float32 probabilities of logits times 0.1 resolve some 6e-7 of a logit, less towards the ends.
    files.official.agrees(f"once_{mode}_{name}_local", found, atol=2e-5)


@pytest.mark.parametrize("name", SETUPS)
@pytest.mark.parametrize("direction", ["end-to-start", "start-to-end", "end-to-start-to-end", "start-to-end-to-start"])
def test_rankings_of_sliding_windows(
    files: Files, opened: Callable[..., LoCoReReranker], direction: str, name: str
) -> None:
    config = files.official.config
    reranker = opened(stride=config["sliding_stride"], direction=direction)
    rankings, truths = ranked(files, reranker, SETUPS[name], config["sliding_topk"])
    check(files, f"sliding_{direction}_{name}", rankings, truths)
