"""The published set-ups in configs/: they load, say what their describer does, and name what exists."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from photos import ROOT, make_collection

from pipeline.config import Config, load_config, parse_config
from pipeline.describe import load_describer
from pipeline.describe.presets import PRESETS
from pipeline.describe.registry import with_preset
from pipeline.rerank.checkpoints import save_checkpoint
from pipeline.rerank.cvnet.network import CVLearner
from pipeline.rerank.cvnet.reranker import CVNetReranker
from pipeline.rerank.registry import RERANKERS
from pipeline.rerank.rrt.network import scale_index
from pipeline.stages.evaluate import evaluate
from pipeline.stages.extract import extract
from pipeline.stages.search import search
from pipeline.stores import Index

CONFIGS = ROOT / "configs"
TRAINING = sorted(CONFIGS.glob("train_*.yaml"))
PUBLISHED = [
    file
    for file in sorted(CONFIGS.glob("*_*20[0-9][0-9].yaml"))
    if "describe" in file.read_text() and file not in TRAINING
]
WITH_PRESET = [file for file in PUBLISHED if load_config(file).describe.name in PRESETS]
AMES = [file for file in PUBLISHED if file.stem.startswith("ames")]
# Sections in which a set-up differs from its describer's: AMES takes a detector's locals from CVNet, and no maps.
OWN = {"cvnet_r101": {"locals", "maps"}}


def stems(files: list[Path]) -> list[str]:
    return [file.stem for file in files]


def written(file: Path) -> dict[str, Any]:
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert isinstance(values, dict)
    return values


@cache
def card_settings(name: str, own: str) -> tuple[Mapping[str, Any], str]:
    """What the model card says of a set-up with random weights, and the card's name; `own` is its file."""
    config = load_config(CONFIGS / f"{own}.yaml").describe
    options = config.model_dump(exclude={"name", "checkpoint"}, exclude_unset=True) | {"weights": "random"}
    card = load_describer(name, **options).card
    return card.complete_settings, card.name


@pytest.mark.parametrize("file", TRAINING, ids=lambda file: file.stem)
def test_a_training_names_its_paper_and_what_it_leaves_open(file: Path) -> None:
    config = load_config(file)
    text = file.read_text(encoding="utf-8")
    head = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert "et al." in head or "Tan, Yuan" in head
    assert f"--config configs/{file.name}" in head
    assert "paper" in text.replace(head, "")
    assert config != Config()


def test_every_paper_is_there() -> None:
    assert stems(PUBLISHED) == [
        "ames_cvnet_r101_eccv2024",
        "ames_dinov2_eccv2024",
        "ames_dist_cvnet_r101_eccv2024",
        "ames_dist_dinov2_eccv2024",
        "cvnet_r101_cvpr2022",
        "cvnet_r50_cvpr2022",
        "rrt_delg_r101_iccv2021",
        "rrt_delg_r50_iccv2021",
        "rrt_sop_r50_iccv2021",
        "superglobal_ames_eccv2024",
        "superglobal_r101_iccv2023",
        "superglobal_r50_iccv2023",
    ]
    assert {load_config(file).describe.name for file in PUBLISHED} >= PRESETS.keys()


@pytest.mark.parametrize("file", WITH_PRESET, ids=stems(WITH_PRESET))
def test_a_file_says_what_its_describer_does(file: Path) -> None:
    """Field by field: neither the file nor the preset nor a default can change alone."""
    config = load_config(file).describe
    own = OWN[config.name] if file in AMES else set()
    preset = with_preset(config.name, {})
    resolved = parse_config({"describe": {**preset, "name": config.name}}, source=config.name).describe
    assert config.model_dump(exclude=own) == resolved.model_dump(exclude=own)
    unwritten = {
        f"{section}.{key}"
        for section, values in preset.items()
        if section not in own
        for key in values
        if key not in written(file)["describe"][section]
    }
    assert not unwritten, "in the preset, and in the file only by its default"


@pytest.mark.parametrize("file", PUBLISHED, ids=stems(PUBLISHED))
def test_files_of_weights_are_the_users(file: Path) -> None:
    config = load_config(file)
    assert config.describe.checkpoint is None
    assert config.describe.weights == "pretrained"
    assert config.describe.locals.projection is None
    assert config.describe.locals.detector is None
    assert config.rerank.locals_from is None
    header = file.read_text(encoding="utf-8").split("\ndescribe:")[0]
    assert "--set describe.checkpoint=FILE" in header
    for name in config.rerank.chain:
        section = getattr(config.rerank, name)
        if hasattr(section, "checkpoint"):
            assert section.checkpoint is None
            assert f"--set rerank.{name}.checkpoint=FILE" in header
    assert ("--set describe.locals.projection=FILE" in header) == (file in AMES)
    assert ("--set describe.locals.detector=FILE" in header) == (config.describe.locals.kind == "detector")


def test_only_trainings_of_describers_say_nothing_of_rerankers() -> None:
    silent = {file for file in CONFIGS.glob("*.yaml") if "rerank" not in written(file)}
    assert silent == {file for file in TRAINING if {"train_global", "train_detector"} & written(file).keys()}


@pytest.mark.parametrize(
    "file",
    # A file that says no more than which rerankers leaves their settings to the defaults.
    [file for file in sorted(CONFIGS.glob("*.yaml")) if written(file).get("rerank", {}).keys() - {"chain"}],
    ids=lambda file: file.stem,
)
def test_rerankers_are_registered_and_written_out(file: Path) -> None:
    config = load_config(file)
    assert config.rerank.chain
    assert set(config.rerank.chain) <= RERANKERS.keys()
    for name in config.rerank.chain:
        assert {"top", "weight"} <= written(file)["rerank"][name].keys()


def test_every_reranker_has_settings() -> None:
    assert type(Config().rerank).model_fields.keys() - {"chain", "calibration", "locals_from"} == RERANKERS.keys()


@pytest.mark.parametrize("file", PUBLISHED, ids=stems(PUBLISHED))
def test_a_model_card_shows_the_files_values(file: Path) -> None:
    """Built once per describer and set-up, with random weights."""
    config = load_config(file).describe
    same = next(other for other in PUBLISHED if load_config(other).describe == config)
    settings, name = card_settings(config.name, same.stem)
    assert name == config.name
    for section, values in written(file)["describe"].items():
        if section == "name":
            continue
        for key, value in values.items():
            assert settings[section][key] == value, f"{section}.{key}"


def test_published_figures() -> None:
    """What the papers' codes and readmes say, once more and by hand."""
    configs = {file.stem: load_config(file) for file in PUBLISHED}
    for depth in (50, 101):
        cvnet = configs[f"cvnet_r{depth}_cvpr2022"].rerank
        assert (cvnet.chain, cvnet.cvnet.top) == (("cvnet",), 100)
        assert (1 - cvnet.cvnet.weight) / cvnet.cvnet.weight == pytest.approx(0.5, abs=1e-15)
        both = configs[f"superglobal_r{depth}_iccv2023"].rerank.superglobal
        assert both == load_config(CONFIGS / "superglobal_iccv2023.yaml").rerank.superglobal
        assert (both.top, both.k, both.beta, both.power, both.expansion, both.weight) == (400, 9, 0.15, 1, 0.5, 0)
        rrt = configs[f"rrt_delg_r{depth}_iccv2021"].rerank
        assert (rrt.chain, rrt.rrt.top, rrt.rrt.weight, rrt.rrt.locals) == (("rrt",), 100, 0, 500)
    sop = configs["rrt_sop_r50_iccv2021"].rerank
    assert (sop.chain, sop.rrt_sop.top, sop.rrt_sop.weight) == (("rrt_sop",), 100, 0)
    mixing = {
        "ames_dinov2_eccv2024": (0.55, 0.30),
        "ames_dist_dinov2_eccv2024": (0.35, 0.10),
        "ames_cvnet_r101_eccv2024": (0.85, 0.80),
        "ames_dist_cvnet_r101_eccv2024": (0.65, 0.20),
    }
    assert mixing.keys() == set(stems(AMES))
    for name, (weight, temperature) in mixing.items():
        ames = configs[name].rerank.ames
        assert (ames.top, ames.weight, ames.temperature) == (100, weight, temperature)
        assert (ames.query_locals, ames.gallery_locals) == (600, 50)
        described = configs[name].describe.locals
        assert (described.kind, described.descriptor, described.count) == ("detector", "detector", 700)
        assert described.count >= ames.query_locals
    on_superglobal = configs["superglobal_ames_eccv2024"]
    assert on_superglobal.rerank.ames == configs["ames_cvnet_r101_eccv2024"].rerank.ames
    assert on_superglobal.rerank.chain == ("ames",)


def test_every_registered_name_is_in_the_page_on_papers() -> None:
    page = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    assert {name for name in (*PRESETS, *RERANKERS) if f"`{name}`" not in page} == set()


def test_scales_of_delg_are_the_ones_that_rrt_learnt() -> None:
    """Some fall just below their entry of the official table, as in the files that the released weights learnt from."""
    scales = load_config(CONFIGS / "rrt_delg_r50_iccv2021.yaml").describe.locals.scales
    stored = np.sort(1 / np.array(scales, dtype=np.float32))
    assert scale_index(stored, "official").tolist() == [0, 0, 2, 2, 4, 4, 6]


@pytest.mark.parametrize("name", ["cvnet_r50_cvpr2022", "superglobal_r50_iccv2023"])
def test_one_config_runs_every_verb(name: str, tmp_path: Path) -> None:
    """Extraction, a search and an evaluation with the same file, as a user would; weights are random."""
    collection = make_collection(tmp_path / "photos")
    settings = [f"index={tmp_path / 'index'}", "describe.weights=random"]
    if name.startswith("cvnet"):
        torch.manual_seed(0)
        save_checkpoint(tmp_path / "cvnet.safetensors", CVNetReranker(CVLearner()).to_checkpoint())
        settings.append(f"rerank.cvnet.checkpoint={tmp_path / 'cvnet.safetensors'}")
    config = load_config(CONFIGS / f"{name}.yaml", settings)
    assert extract(config, str(collection.manifest)).added == 28
    hits = search(config, [str(collection.folder / "disc" / "disc_0.png")]).hits[0]
    assert hits[0].label == "disc"
    result = evaluate(config)
    assert (result.queries, result.gallery, result.rerank) == (24, 28, list(config.rerank.chain))
    assert result.after is not None
    described = Index(tmp_path / "index").card.settings["globals"]
    assert described["p"] == "learned"
