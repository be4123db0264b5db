"""timm's models as backbones: fixed input sizes, patches, names on the hub, and every family of docs/backbones.md."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from photos import ROOT

from pipeline.describe import load_describer
from pipeline.describe.backbones import architecture_of, load_backbone
from pipeline.errors import RelookError, UsageError

PICTURE = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
NO_PCA = {"count": 10, "dimension": None}

TABLE = (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8").splitlines()
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in TABLE if line.startswith("| ")]
SWEEP = {row[1]: row for row in ROWS if len(row) == 6 and row[0] != "family"}


def test_the_table_of_families_is_read() -> None:
    assert len(SWEEP) > 90


def described(name: str, **options: Any) -> tuple[Any, Any]:
    describer = load_describer(name, weights="random", **{"locals": NO_PCA, **options})
    prepared = describer.prepare(PICTURE)
    [description] = describer.describe([prepared])
    assert np.isfinite(description.vector).all()
    assert np.linalg.norm(description.vector) == pytest.approx(1, abs=1e-4)
    assert description.locals is not None
    assert np.isfinite(description.locals.descriptors).all()
    assert (description.locals.xy >= 0).all()
    assert (description.locals.xy <= (320, 240)).all()
    return describer, prepared


@pytest.mark.parametrize(
    ("name", "side"),
    [("levit_128s", 224), ("hiera_tiny_224", 224), ("maxvit_nano_rw_256", 256), ("mvitv2_tiny", 224)],
)
def test_a_model_of_one_size_reads_that_size(name: str, side: int, caplog: pytest.LogCaptureFixture) -> None:
    describer, prepared = described(name, image={"size": 320})
    assert [pixels.shape for pixels in prepared.pixels] == [(3, side, side)]
    image = describer.card.settings["image"]
    assert (image["size"], image["resize"], image["multiple"]) == (side, "exact", 1)
    assert describer.card.settings["globals"]["scales"] == [1.0]
    assert f"{name} reads {side} x {side} pixels only" in caplog.text


@pytest.mark.parametrize(
    "name",
    [
        "test_vit",
        "test_resnet",
        "crossvit_9_240",
        "mobilenetv3_small_050",
        "regnetx_002",
        "convnext_atto",
        "edgenext_xx_small",
        "poolformerv2_s12",
    ],
)
def test_models_of_other_families_read_any_size(name: str) -> None:
    _, prepared = described(name, image={"size": 160})
    assert len(prepared.pixels) == 3


def test_a_crop_is_a_multiple_of_the_patch_at_every_scale() -> None:
    _, prepared = described("test_vit", image={"resize": "short", "size": 256, "crop": 224})
    assert [pixels.shape[1:] for pixels in prepared.pixels] == [(160, 160), (224, 224), (320, 320)]
    _, prepared = described("test_vit", image={"resize": "exact", "size": 224, "scaling": "tensor"})
    assert [pixels.shape[1:] for pixels in prepared.pixels] == [(224, 224)]


def test_a_multiple_off_the_patch_is_one_line() -> None:
    with pytest.raises(RelookError, match="= 10: test_vit reads sides of multiples of 16 pixels; leave it null"):
        load_describer("test_vit", weights="random", image={"multiple": 10})
    one_scale = {"scales": [1.0]}
    described(
        "test_vit",
        image={"multiple": 1, "resize": "exact", "size": 224},
        globals=one_scale,
        locals={**NO_PCA, **one_scale},
    )


@pytest.mark.parametrize("weights", ["random", "pretrained"])
def test_a_model_that_only_the_hub_knows(
    weights: Literal["random", "pretrained"], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no connection\nto the hub")

    monkeypatch.setattr("timm.models._factory.load_model_config_from_hf", unreachable)
    with pytest.raises(RelookError, match=r"'hf-hub:someone/model' .*\(no connection\)"):
        load_backbone("hf-hub:someone/model", weights=weights, checkpoint=None)


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet5O", "timm/resnet5O", "resnet5O"])
def test_a_misspelt_name_suggests_the_nearest(name: str) -> None:
    with pytest.raises(UsageError, match=r"unknown describer .*did you mean 'resnet50.*'"):
        load_backbone(name, weights="random", checkpoint=None)


@pytest.mark.parametrize("name", ["timm/test_resnet.r160_in1k", "hf-hub:timm/test_resnet.r160_in1k"])
def test_names_of_the_hub(name: str) -> None:
    assert architecture_of(name) == "test_resnet.r160_in1k"
    ours, _ = described(name)
    plain, _ = described("test_resnet.r160_in1k")
    assert ours.card.architecture == plain.card.architecture


@pytest.mark.slow
@pytest.mark.parametrize("name", SWEEP)
def test_the_smallest_model_of_each_family(name: str) -> None:
    _, _, read, dimension, local, outcome = SWEEP[name]
    scales = {"scales": (1.0,)}
    if outcome != "described":
        with pytest.raises(RelookError):
            described(name, globals=scales, locals={**NO_PCA, **scales})
        return
    describer, prepared = described(name, globals=scales, locals={**NO_PCA, **scales})
    height, width = prepared.pixels[0].shape[1:]
    only = " only" if describer.network.backbone.fixed_size else ""
    assert [f"{width} x {height}{only}", str(describer.card.dimension)] == [read, dimension]
    assert str(describer.card.local_dimension) == local
