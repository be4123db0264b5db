"""The image pipeline of CVNet and SuperGlobal: the official pixels, to the last one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from parity_ledger import folders

from pipeline.describe import load_describer


@pytest.fixture(scope="module", params=folders("cvnet_preproc*"))
def official(request: pytest.FixtureRequest, official_folder: Any) -> Any:
    return official_folder(request.param)


@pytest.fixture(scope="module")
def describer(official: Any) -> Any:
    scales = tuple(official.config["scales"])
    return load_describer("cvnet_r50", weights="random", globals={"scales": scales}, maps={"levels": ()})


def boxes(official: Any) -> list[tuple[str, str, Any]]:
    asked = [("db", name, None) for name in official.config["images"]]
    return [*asked, *(("query", name, official.inputs[f"bbx_{name}"]) for name in official.config["query_images"])]


def test_pixels_and_tensors(official: Any, describer: Any) -> None:
    for kind, name, box in boxes(official):
        prepared = describer.prepare(official.picture(name), None if box is None else tuple(box.tolist()))
        for number, scale in enumerate(prepared.scales):
            start = f"{kind}_{name}_{scale}"
            official.equals(f"{start}_bgr_uint8_hwc", prepared.pixels[number][::-1].transpose(1, 2, 0))
            tensor = describer.input.normalised([prepared], number)[0]
            official.stats(f"{start}_stats", tensor, rtol=1e-6)
            if official.has(f"{start}_tensor"):
                official.agrees(f"{start}_tensor", tensor, atol=1e-6)


def test_places_lead_back_to_the_original(official: Any, describer: Any) -> None:
    """The centre of what was prepared is the centre of the box, at every scale."""
    for _, name, box in boxes(official):
        picture = official.picture(name)
        height, width = picture.shape[:2]
        left, top, right, bottom = (0, 0, width, height) if box is None else map(int, box)
        prepared = describer.prepare(picture, None if box is None else tuple(box.tolist()))
        for pixels, (sx, sy, dx, dy) in zip(prepared.pixels, prepared.to_original, strict=True):
            assert pixels.shape[2] / 2 * sx + dx == pytest.approx((left + right) / 2, abs=1)
            assert pixels.shape[1] / 2 * sy + dy == pytest.approx((top + bottom) / 2, abs=1)
            assert torch.from_numpy(pixels).dtype == torch.uint8
