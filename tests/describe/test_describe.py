"""Describers: what a picture becomes, and what makes two descriptors comparable."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from pipeline.describe import Described, Failed, ReadOptions, describe_stream, describer_for_card, load_describer
from pipeline.describe.local_descriptors import strongest_cells
from pipeline.describe.pooling import gem
from pipeline.describe.projections import fit_pca
from pipeline.errors import RelookError, UsageError
from pipeline.types import Description, ImageRecord

READING = ReadOptions(batch_size=4, workers=2, models=2, max_pixels=10**7, max_bytes=10**7)
SMALL = {"image": {"size": 96}, "globals": {"scales": [1.0]}, "locals": {"count": 10, "scales": [1.0, 1.4142]}}


def picture(seed: int, height: int = 90, width: int = 120) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (height // 15, width // 15, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def describer():
    made = load_describer("efficientnet_lite0", **SMALL)
    made.fit([[made.prepare(picture(seed)) for seed in range(12)]])
    return made


def test_shapes_and_lengths(describer) -> None:
    description = describer.describe([describer.prepare(picture(0))])[0]
    assert description.vector.shape == (1280,)
    assert description.vector.dtype == np.float32
    assert np.linalg.norm(description.vector) == pytest.approx(1, abs=1e-5)
    local = description.locals
    assert local.descriptors.shape == (10, 128)
    np.testing.assert_allclose(np.linalg.norm(local.descriptors, axis=1), 1, atol=1e-5)
    assert (np.diff(local.weight) <= 0).all()
    assert set(np.round(1 / local.scale, 4)) <= {np.float32(1.0), np.float32(1.4142)}
    assert (local.xy >= 0).all()
    assert (local.xy <= [120, 90]).all()


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_looked_up_pixels_are_those_that_torch_computes_bit_by_bit(channels: str) -> None:
    image = {"size": 96, "channels": channels, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    made = load_describer("efficientnet_lite0", **{**SMALL, "image": image})
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 96), dtype=np.uint8)
    pixels[0, :, :8, :32] = np.arange(256).reshape(8, 32)  # every value
    prepared = [dataclasses.replace(made.prepare(picture(0)), pixels=[one]) for one in pixels]
    found = made.input.normalised(prepared)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, made.input.as_read(torch.from_numpy(pixels)))


def test_a_batch_equals_one_by_one(describer) -> None:
    prepared = [describer.prepare(picture(seed)) for seed in range(3)]
    together = describer.describe(prepared)
    for item, expected in zip(prepared, together, strict=True):
        alone = describer.describe([item])[0]
        np.testing.assert_allclose(alone.vector, expected.vector, atol=1e-5)
        np.testing.assert_allclose(np.sort(alone.locals.weight), np.sort(expected.locals.weight), rtol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 3), (1, 400), (400, 1), (33, 517)])
def test_any_size_of_picture_works(describer, height: int, width: int) -> None:
    image = np.full((height, width, 3), 128, np.uint8)
    description = describer.describe([describer.prepare(image)])[0]
    assert np.isfinite(description.vector).all()
    assert (description.locals.xy <= [width, height]).all()


def test_a_box_describes_the_part_and_keeps_the_original_coordinates(describer) -> None:
    image = picture(3, 180, 240)
    box = (60.9, 45.2, 200.0, 150.0)
    boxed = describer.describe([describer.prepare(image, box)])[0]
    cut = describer.describe([describer.prepare(np.ascontiguousarray(image[45:150, 60:200]))])[0]
    np.testing.assert_allclose(boxed.vector, cut.vector, atol=1e-6)
    np.testing.assert_allclose(boxed.locals.xy, cut.locals.xy + np.array([60, 45]), atol=1e-3)
    with pytest.raises(RelookError, match="no pixel"):
        describer.prepare(image, (500, 500, 600, 600))


def test_positions_point_at_what_was_seen() -> None:
    """The strongest cell lies on the only structure of the picture, at every scale."""
    describer = load_describer(
        "efficientnet_lite0",
        image={"size": 320},
        locals={"count": 1, "stage": 2, "scales": [1.0]},
    )
    image = np.full((300, 480, 3), 200, np.uint8)
    image[60:100, 360:400] = picture(1, 45, 45)[:40, :40]
    local = describer.describe([describer.prepare(image)])[0].locals
    x, y = local.xy[0]
    assert 330 < x < 430
    assert 30 < y < 130


def test_the_card_tells_apart_what_must_not_mix(describer) -> None:
    card = describer.card
    other = load_describer("efficientnet_lite0", **{**SMALL, "globals": {"scales": [1.0], "p": 3}})
    other.use_fitted(describer.fitted())
    assert card.fingerprint != other.card.fingerprint
    assert [line.split(":")[0] for line in card.differences(other.card)] == ["settings.globals.p"]
    assert dataclasses.replace(card).fingerprint == card.fingerprint


def test_a_describer_is_made_again_from_its_card(describer) -> None:
    again = describer_for_card(describer.card, describer.fitted())
    prepared = describer.prepare(picture(5))
    first, second = describer.describe([prepared])[0], again.describe([again.prepare(picture(5))])[0]
    np.testing.assert_array_equal(first.vector, second.vector)
    np.testing.assert_array_equal(first.locals.descriptors, second.locals.descriptors)
    with pytest.raises(RelookError, match="weights"):
        describer_for_card(dataclasses.replace(describer.card, weights="sha256:other"), describer.fitted())


def test_projections_have_to_be_fitted_first() -> None:
    fresh = load_describer("efficientnet_lite0", **SMALL)
    assert fresh.to_fit == ("locals",)
    with pytest.raises(RelookError, match="locals have not been fitted"):
        _ = fresh.card


def test_whitening_needs_enough_pictures_and_whitens() -> None:
    rng = np.random.default_rng(0)
    samples = (rng.standard_normal((400, 12)) * np.linspace(3, 0.2, 12)).astype(np.float32)
    projection = fit_pca(samples, 5, whiten=True, what="describe.globals.whiten")
    whitened = (samples - projection.mean) @ projection.matrix
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(5), atol=0.05)
    plain = fit_pca(samples, 5, whiten=False, what="x")
    np.testing.assert_allclose(plain.matrix.T @ plain.matrix, np.eye(5), atol=1e-5)
    with pytest.raises(RelookError, match=r"describe.globals.whiten.*more than 5 pictures"):
        fit_pca(samples[:5], 5, whiten=True, what="describe.globals.whiten")


@given(p=st.floats(0.5, 8), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_gem_lies_between_average_and_maximum(p: float, seed: int) -> None:
    maps = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(seed)) + 0.01
    pooled = gem(maps, p)
    assert (pooled <= maps.amax(dim=(-2, -1)) + 1e-5).all()
    if p >= 1:
        assert (pooled >= maps.mean(dim=(-2, -1)) - 1e-5).all()


def test_gem_of_one_is_the_average_of_signed_maps() -> None:
    maps = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(gem(maps, 1), maps.mean(dim=(-2, -1)))


def test_strongest_cells_over_scales() -> None:
    small, large = torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 2, 2)
    small[0, :, 0, 1] = 3
    large[0, :, 1, 0] = 5
    cells = strongest_cells([small, large], [(32, 64), (64, 64)], 2)
    assert cells.scale.tolist() == [[1, 0]]
    assert cells.xy.tolist() == [[[16, 48], [48, 16]]]
    assert strongest_cells([small], [(32, 64)], 50).weight.shape == (1, 2)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_other_backbones_have_global_and_local_descriptors(name: str) -> None:
    image = {"size": 224, "resize": "exact"}
    describer = load_describer(
        name, weights="random", image=image, globals={"scales": [1.0]}, locals={"count": 8, "scales": [1.0]}
    )
    if describer.to_fit:
        describer.fit([[describer.prepare(picture(0)), describer.prepare(picture(1))]])
    description = describer.describe([describer.prepare(picture(0))])[0]
    assert description.vector.shape == (describer.card.dimension,)
    assert description.locals.descriptors.shape == (8, describer.card.local_dimension)
    assert describer.card.random
    assert describer.card.weights == "random weights (seed 0)"


def test_random_weights_are_the_same_every_time() -> None:
    options = {"weights": "random", "image": {"size": 64}, "locals": {"count": 0}, "globals": {"scales": [1.0]}}
    vectors = []
    for _ in range(2):
        made = load_describer("resnet18", **options)
        vectors.append(made.describe([made.prepare(picture(0))])[0].vector)
    np.testing.assert_array_equal(*vectors)


def test_a_local_file_of_weights(tmp_path: Path) -> None:
    model = timm.create_model("resnet18", num_classes=10)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    made = load_describer("resnet18", tmp_path / "weights.safetensors", locals={"count": 0})
    assert made.card.weights.startswith("sha256:")
    with pytest.raises(RelookError, match=r"another architecture.*missing"):
        load_describer("resnet34", tmp_path / "weights.safetensors")
    with pytest.raises(RelookError, match="no such checkpoint"):
        load_describer("resnet18", tmp_path / "nothing.pth")
    (tmp_path / "garbage.pth").write_bytes(b"garbage")
    with pytest.raises(RelookError, match="cannot be read as a checkpoint"):
        load_describer("resnet18", tmp_path / "garbage.pth")


def test_learned_p_comes_from_the_checkpoint(tmp_path: Path) -> None:
    state = timm.create_model("resnet18", num_classes=0).state_dict()
    save_file({**state, "pool.p": torch.tensor([2.5])}, tmp_path / "trained.safetensors")
    save_file(state, tmp_path / "plain.safetensors")
    options = {"globals": {"p": "learned"}, "locals": {"count": 0}}
    made = load_describer("resnet18", tmp_path / "trained.safetensors", **options)
    assert made.card.settings["globals"]["p"] == 2.5
    with pytest.raises(RelookError, match=r"no key pool\.p"):
        load_describer("resnet18", tmp_path / "plain.safetensors", **options)


def test_weights_that_cannot_be_had_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RelookError, match=r"describe\.checkpoint=FILE") as caught:
        load_describer("resnet10t")
    assert "\n" not in str(caught.value)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UsageError, match="resnet50"):
        load_describer("resnet_50")
    with pytest.raises(UsageError, match=r"describe\.image\.size"):
        load_describer("efficientnet_lite0", image={"sise": 3})
    with pytest.raises(RelookError, match="has 5 stages"):
        load_describer("efficientnet_lite0", locals={"stage": 9})


class TestStream:
    @pytest.fixture
    def files(self, tmp_path: Path) -> list[ImageRecord]:
        for number in range(11):
            size = (90, 120) if number % 3 else (120, 90)
            Image.fromarray(picture(number, *size)).save(tmp_path / f"{number:02}.png")
        (tmp_path / "05.png").write_bytes(b"no picture")
        (tmp_path / "07.png").unlink()
        return [ImageRecord(f"{number:02}", f"{number:02}.png") for number in range(11)]

    def test_every_photo_ends_somewhere(self, describer, files: list[ImageRecord], tmp_path: Path) -> None:
        found = list(describe_stream(describer, files, lambda record: tmp_path / record.path, READING))
        failed = {item.record.id: item.reason for item in found if isinstance(item, Failed)}
        assert sorted(failed) == ["05", "07"]
        assert "No such file" in failed["07"]
        assert sorted(item.record.id for item in found) == [record.id for record in files]

    def test_batches_do_not_change_descriptors(self, describer, files: list[ImageRecord], tmp_path: Path) -> None:
        for item in describe_stream(describer, files, lambda record: tmp_path / record.path, READING):
            if isinstance(item, Described):
                image = np.asarray(Image.open(tmp_path / item.record.path).convert("RGB"))
                alone: Description = describer.describe([describer.prepare(image)])[0]
                np.testing.assert_allclose(item.description.vector, alone.vector, atol=1e-5)
                assert (item.record.height, item.record.width) == image.shape[:2]
                assert len(item.record.sha256) == 64

    def test_reading_stays_ahead_but_bounded(self, describer, tmp_path: Path) -> None:
        Image.fromarray(picture(0)).save(tmp_path / "a.png")
        asked: list[int] = []

        def endless() -> Iterator[ImageRecord]:
            for number in range(10_000):
                asked.append(number)
                yield ImageRecord(str(number), "a.png")

        stream = describe_stream(describer, endless(), lambda record: tmp_path / record.path, READING)
        for _ in range(3 * READING.batch_size):
            next(stream)
        assert len(asked) <= 16 * READING.batch_size
        stream.close()
