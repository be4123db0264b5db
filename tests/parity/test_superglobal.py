"""SuperGlobal's describer: the official modules alone, and in the network, on and off, with and without
antialiasing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from parity_ledger import folders

from pipeline.describe import load_describer
from pipeline.describe.pooling import gem, gem_plus, regional_gem, relup, scale_gem

DESCRIPTORS = 2e-6
SCALES = {"1": (1.0,), "3": (0.7071, 1.0, 1.4142), "5": (0.5, 0.7071, 1.0, 1.4142, 2.0)}
# "aa0_nogemp_scale3_NAME", "aa0_norelup_nothing_scale1_NAME"
OUTPUT = re.compile(r"aa(?P<antialias>[01])_(?P<modules>\w+?)_scale(?P<scales>\d)_(?P<image>.+?)(?P<raw>_raw_stats)?")


@pytest.fixture(scope="module", params=folders("superglobal_modules*"))
def modules(request: pytest.FixtureRequest, official_folder: Any) -> Any:
    return official_folder(request.param)


@pytest.fixture(scope="module", params=folders("superglobal_r[0-9]*"))
def official(request: pytest.FixtureRequest, official_folder: Any) -> Any:
    return official_folder(request.param)


@pytest.fixture(scope="module")
def checkpoint(official: Any, official_file: Callable[..., Path]) -> Path:
    return official_file(official, "model_state")


@pytest.fixture(scope="module")
def make(official: Any, checkpoint: Path) -> Callable[..., Any]:
    """A describer of some modules; each is built once."""
    made: dict[Any, Any] = {}

    def describer(modules: str, scales: str, antialias: bool) -> Any:
        key = modules, scales, antialias
        if key not in made:
            made.clear()
            made[key] = load_describer(
                f"superglobal_r{official.config['depth']}",
                checkpoint,
                image={"antialias": antialias},
                globals={"scales": SCALES[scales]},
                superglobal=switches(modules),
            )
        return made[key]

    return describer


def switches(name: str) -> dict[str, bool]:
    """The modules that a name such as "nogemp" or "norelup_nothing" leaves on."""
    on = dict.fromkeys(("gemp", "rgem", "sgem", "relup"), True)
    for word in name.split("_"):
        if word == "nothing":
            on |= dict.fromkeys(("gemp", "rgem", "sgem"), False)
        elif word != "all":
            on[word.removeprefix("no")] = False
    return on


def test_modules_alone(modules: Any) -> None:
    positive = torch.from_numpy(modules.inputs["x_pos"])
    signed = torch.from_numpy(modules.inputs["x_signed"])
    scales = list(torch.from_numpy(modules.inputs["desc_list"]))
    found = {
        "gemp_default": gem_plus(positive)[..., None],
        "gemp_p3": gem_plus(positive, 3.0)[..., None],
        "rgem_default": regional_gem(positive),
        "rgem_pr3_size3": regional_gem(positive, 3.0, 3),
        "relup_default": relup(signed),
        "relup_0": relup(signed, 0.0),
        "sgem_infinity": scale_gem(scales, math.inf),
        "sgem_ps10_finite": scale_gem([scale.abs() for scale in scales], 10.0),
        "gem_head_p3_1d": gem(positive, 3.0)[..., None],
    }
    for name, value in found.items():
        modules.agrees(name, value, atol=1e-6)


def test_every_combination_of_modules(official: Any, make: Callable[..., Any]) -> None:
    names = sorted(name for name in official.outputs if OUTPUT.fullmatch(name))
    assert names
    for name in names:
        match = OUTPUT.fullmatch(name)
        assert match is not None
        describer = make(match["modules"], match["scales"], match["antialias"] == "1")
        prepared = describer.prepare(official.picture(match["image"]))
        if match["raw"]:
            official.stats(name, raw(describer, prepared), rtol=2e-6)
        else:
            official.agrees(name, describer.describe([prepared])[0].vector, atol=DESCRIPTORS)


@torch.inference_mode()
def raw(describer: Any, prepared: Any) -> torch.Tensor:
    """The descriptor before it gets unit length: what the head combines, caught on the way."""
    pooled = [
        describer.network.head.pool(describer.network.backbone(images)[0])
        for _, images in describer.input.pyramid([prepared])
    ]
    return describer.network.head.join(pooled)


@torch.inference_mode()
def test_maps_before_pooling(official: Any, make: Callable[..., Any]) -> None:
    for name in official.matching("s4_"):
        if not name.endswith("_stats"):
            continue
        image = name.removesuffix("_stats").rsplit("_", 1)[1]
        describer = make("norelup" if "norelup" in name else "all", "1", False)
        images = describer.input.normalised([describer.prepare(official.picture(image))])
        final, _ = describer.network.backbone(images)
        official.stats(name, final, rtol=1e-5)
        if f"s4_{image}_first64" in official.outputs and "norelup" not in name:
            official.agrees(f"s4_{image}_first64", final.flatten()[:64], atol=2e-5)
            pooled = regional_gem(final)
            official.stats(f"rgem_s4_{image}_stats", pooled, rtol=1e-5)
            official.agrees(f"rgem_s4_{image}_first64", pooled.flatten()[:64], atol=2e-5)


def test_the_quirk_has_a_switch(official: Any, checkpoint: Path) -> None:
    """With relup off, the official code still cuts inside stage 1; a card says which of both was done."""
    name = f"superglobal_r{official.config['depth']}"
    quirk = load_describer(name, checkpoint, superglobal={"relup": False})
    clean = load_describer(name, checkpoint, superglobal={"relup": False, "relup_inside": False})
    assert any("relup_inside" in difference for difference in quirk.card.differences(clean.card))
    picture = official.picture(official.config["images"][0])
    vectors = [one.describe([one.prepare(picture)])[0].vector for one in (quirk, clean)]
    assert float(vectors[0] @ vectors[1]) < 1 - 1e-6
