"""AMES's detector: what it computes, which cells it keeps, and how an index remembers it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import parse_config
from pipeline.describe import describer_for_card, load_describer
from pipeline.describe.backbones import Tap
from pipeline.describe.detector import Detector
from pipeline.describe.preprocessing import prepare
from pipeline.errors import RelookError, UsageError

SCALES = (0.5, 1.0)
# The last map of EfficientNet-Lite0 before its wide layer, from pictures of 64 pixels.
LOCALS: dict[str, Any] = {"kind": "detector", "count": 6, "stage": -1, "scales": SCALES, "dimension": None}
OPTIONS: dict[str, Any] = {"image": {"size": 96, "multiple": 32}, "globals": {"scales": (1.0,)}}


def made(channels: int, seed: int) -> Detector:
    torch.manual_seed(seed)
    detector = Detector(channels).eval()
    for tensor in (detector.bn.weight.data, detector.bn.running_mean, detector.bn.running_var):
        tensor.uniform_(0.5, 1.5)
    return detector


def saved(path: Path, channels: int, seed: int = 0) -> Path:
    torch.save({"state": made(channels, seed).state_dict()}, path)
    return path


def map_of(describer: Any, prepared: Any, number: int) -> torch.Tensor:
    return describer.network.backbone(describer.input.normalised([prepared], number), [Tap(LOCALS["stage"])])[1][0]


def picture(width: int = 120, height: int = 90, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def channels() -> int:
    plain = load_describer("efficientnet_lite0", **OPTIONS, locals={**LOCALS, "kind": "strongest"})
    return plain.card.local_dimension


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, channels: int) -> Path:
    return saved(tmp_path_factory.mktemp("detector") / "detector.pt", channels)


@pytest.fixture(scope="module")
def describer(file: Path) -> Any:
    return load_describer("efficientnet_lite0", **OPTIONS, locals={**LOCALS, "detector": file})


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99), st.booleans())
def test_a_plain_loop_says_the_same(channels: int, height: int, width: int, seed: int, backbone: bool) -> None:
    detector = made(channels, seed)
    maps = torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        features, weights = detector(maps, "backbone" if backbone else "detector")
    state = {key: value.double().numpy() for key, value in detector.state_dict().items()}
    for image in range(2):
        for y in range(height):
            for x in range(width):
                cell = maps[image, :, y, x].double().numpy()
                inner = state["conv1.weight"][:, :, 0, 0] @ cell + state["conv1.bias"]
                inner = (inner - state["bn.running_mean"]) / np.sqrt(state["bn.running_var"] + 1e-5)
                inner = inner * state["bn.weight"] + state["bn.bias"]
                logit = state["conv2.weight"][0, :, 0, 0] @ np.maximum(inner, 0) + state["conv2.bias"][0]
                assert weights[image, y, x] == pytest.approx(np.log1p(np.exp(logit)), rel=1e-4, abs=1e-5)
                kept = cell if backbone else inner
                expected = kept / np.linalg.norm(kept)
                np.testing.assert_allclose(features[image, :, y, x], expected, atol=1e-4)


@torch.inference_mode()
def test_cells_of_all_scales_compete(describer: Any) -> None:
    prepared = describer.prepare(picture())
    found = describer.describe([prepared])[0].locals
    every = []
    for number in range(len(SCALES)):
        features, weights = describer.detector(map_of(describer, prepared, number))
        rows, columns = np.indices(weights.shape[1:])
        height, width = prepared.pixels[number].shape[1:]
        sx, sy, dx, dy = prepared.to_original[number]
        xs = (columns + 0.5) * width / weights.shape[2] * sx + dx
        ys = (rows + 0.5) * height / weights.shape[1] * sy + dy
        flat = zip(weights.flatten().tolist(), features[0].flatten(1).T.numpy(), xs.ravel(), ys.ravel(), strict=True)
        every += [(weight, row, (x, y), 1 / SCALES[number]) for weight, row, x, y in flat]
    every.sort(key=lambda one: -one[0])
    assert len(found) == LOCALS["count"]
    for row, (weight, descriptor, place, scale) in enumerate(every[: len(found)]):
        assert found.weight[row] == pytest.approx(weight, abs=1e-5)
        np.testing.assert_allclose(found.descriptors[row], descriptor, atol=1e-5)
        np.testing.assert_allclose(found.xy[row], place, atol=1e-3)
        assert found.scale[row] == pytest.approx(scale)


def test_the_backbones_descriptors_with_the_same_weights(describer: Any, file: Path) -> None:
    """What ELViS reads: which cells is the detector's choice, what they say is the backbone's."""
    own = {**LOCALS, "detector": file, "descriptor": "backbone"}
    other = load_describer("efficientnet_lite0", **OPTIONS, locals=own)
    found, expected = (one.describe([one.prepare(picture())])[0].locals for one in (other, describer))
    np.testing.assert_array_equal(found.weight, expected.weight)
    np.testing.assert_array_equal(found.xy, expected.xy)
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-5)
    with torch.inference_mode():
        prepared = other.prepare(picture())
        cells = [map_of(other, prepared, number)[0].flatten(1).T.numpy() for number in range(len(SCALES))]
    near = found.descriptors @ np.concatenate([rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in cells]).T
    np.testing.assert_allclose(near.max(axis=1), 1, atol=1e-5)
    assert other.card.locals.descriptor == "backbone"
    assert other.card.fingerprint != describer.card.fingerprint


def test_corners_are_multiples_of_the_stride(file: Path) -> None:
    centres, corners = (
        load_describer("efficientnet_lite0", **OPTIONS, locals={**LOCALS, "detector": file, "places": places})
        for places in ("centre", "corner")
    )
    box = (10.0, 20.0, 110.0, 80.0)
    prepared = corners.prepare(picture(), box)
    found, other = corners.describe([prepared])[0].locals, centres.describe([prepared])[0].locals
    np.testing.assert_array_equal(found.descriptors, other.descriptors)
    for row in range(len(found)):
        sx, sy, dx, dy = prepared.to_original[SCALES.index(1 / found.scale[row])]
        cells = (found.xy[row] - (dx, dy)) / (32 * sx, 32 * sy)
        np.testing.assert_allclose(cells, np.round(cells), atol=1e-4)
    assert corners.card.locals.places == "corner"
    assert "places" not in centres.card.settings["locals"]


def test_a_card_brings_its_detector(describer: Any, file: Path) -> None:
    again = describer_for_card(describer.card, describer.fitted())
    assert again.card == describer.card
    assert describer.card.locals.detector == describer.detector.card
    prepared = describer.prepare(picture())
    found, expected = (one.describe([prepared])[0].locals for one in (again, describer))
    np.testing.assert_array_equal(found.descriptors, expected.descriptors)
    with pytest.raises(RelookError, match=r"no detector was given; add --set describe\.locals\.detector=FILE"):
        describer_for_card(describer.card, {})


def test_wrong_files_and_settings(file: Path, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"detector": saved(tmp_path / "narrow.pt", 4)}, "the detector takes maps of 4 channels"),
        ({"detector": tmp_path / "absent.pt"}, "no such checkpoint"),
    ]
    torch.save({"state": {"conv1.weight": torch.zeros(3)}}, tmp_path / "other.pt")
    cases.append(({"detector": tmp_path / "other.pt"}, "not a checkpoint of AMES's detector"))
    state = {key: value for key, value in made(4, 0).state_dict().items() if key != "conv2.bias"}
    torch.save({"state": state}, tmp_path / "part.pt")
    cases.append(({"detector": tmp_path / "part.pt"}, r"1 missing \(conv2\.bias\)"))
    for changes, message in cases:
        with pytest.raises(RelookError, match=message):
            load_describer("efficientnet_lite0", **OPTIONS, locals={**LOCALS, **changes})
    for wrong in ({"detector": file}, {"descriptor": "backbone"}):
        with pytest.raises(UsageError, match="belongs to kind = detector, not strongest"):
            load_describer("efficientnet_lite0", **OPTIONS, locals={**LOCALS, **wrong, "kind": "strongest"})
    for kind in ("class_token", "locals"):
        options = {"globals": {"kind": kind, "scales": (1.0,)}, "locals": {**LOCALS, "kind": "strongest"}}
        with pytest.raises(RelookError, match=rf"describe\.globals\.kind = {kind}"):
            load_describer("cvnet_r50", weights="random", **options)
    with pytest.raises(RelookError, match="has no class token"):
        load_describer("efficientnet_lite0", globals={"kind": "class_token"})


def test_the_mean_of_cells_by_weight(describer: Any, file: Path) -> None:
    mean = load_describer(
        "efficientnet_lite0",
        image=OPTIONS["image"],
        globals={"kind": "locals", "scales": (1.0,)},
        locals={**LOCALS, "detector": file},
    )
    prepared = mean.prepare(picture())
    vector = mean.describe([prepared])[0].vector
    with torch.inference_mode():
        features, weights = mean.detector(map_of(mean, prepared, 1))
    expected = (features * weights[:, None]).sum(dim=(2, 3))[0].numpy()
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-5)
    assert mean.card.settings["globals"]["kind"] == "locals"
    assert "kind" not in describer.card.settings["globals"]


def test_cells_by_their_cosine_to_the_class_token() -> None:
    """ELViS's choice without a detector; negative cosines are none the worse."""
    options = {
        "image": {"size": 64},
        "locals": {"kind": "class_token", "count": 99, "scales": (1.0,), "dimension": None},
    }
    describer = load_describer(
        "vit_tiny_patch16_224", weights="random", globals={"kind": "class_token", "scales": (1.0,)}, **options
    )
    prepared = describer.prepare(picture())
    found = describer.describe([prepared])[0]
    with torch.inference_mode():
        final, _, token = describer.network.backbone.with_class_token(describer.input.normalised([prepared]))
    np.testing.assert_allclose(found.vector, token[0] / token[0].norm(), atol=1e-5)
    cells = final[0].flatten(1).T.numpy()
    cells /= np.linalg.norm(cells, axis=1, keepdims=True)
    cosines = cells @ found.vector
    order = np.argsort(-cosines)
    assert len(found.locals) == len(cells)
    np.testing.assert_allclose(found.locals.weight, cosines[order], atol=1e-5)
    np.testing.assert_allclose(found.locals.descriptors, cells[order], atol=1e-4)
    with pytest.raises(RelookError, match=r"describe\.locals\.stage = 3: kind = class_token"):
        load_describer("vit_tiny_patch16_224", weights="random", locals={"kind": "class_token", "stage": 3})


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(20, 400), st.integers(2, 16), st.sampled_from([None, 0.5]))
def test_sides_become_multiples_of_the_patch(
    width: int, height: int, size: int, patch: int, part: float | None
) -> None:
    """By a factor of the whole photo's longer side, whatever the box."""
    image = parse_config(
        {
            "describe": {
                "image": {
                    "interpolation": "opencv",
                    "resize": "long",
                    "size": size,
                    "size_of": "photo",
                    "multiple": patch,
                }
            }
        },
        source="test",
    ).describe.image
    box = None if part is None else (0.0, 0.0, max(1.0, width * part), max(1.0, height * part))
    prepared = prepare(np.zeros((height, width, 3), np.uint8), box, image, (1.0,), patch)
    sides = (height, width) if box is None else (int(box[3]), int(box[2]))
    expected = [patch * max(1, round(size / max(height, width) * side / patch)) for side in sides]
    assert list(prepared.pixels[0].shape[1:]) == expected
    sx, sy, _, _ = prepared.to_original[0]
    assert expected[1] * sx == pytest.approx(sides[1], rel=1e-6)
    assert expected[0] * sy == pytest.approx(sides[0], rel=1e-6)
