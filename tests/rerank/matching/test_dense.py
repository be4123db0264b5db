"""Dense matchers: points of the originals, pictures without matches, LoFTR and Efficient LoFTR with made weights."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from keypoints import random_keypoints
from torch.nn import functional

from pipeline.describe import load_keypoints
from pipeline.errors import RelookError, UsageError
from pipeline.rerank.matching.dense import DenseMatcher, Points
from pipeline.rerank.matching.eloftr import EfficientLoFTRMatcher, refined
from pipeline.rerank.matching.matchers import features_for, load_matcher
from pipeline.rerank.matching.reranker import MatchingReranker
from pipeline.types import GreyPicture, KeypointsCard, Matches


class SamePlaces(DenseMatcher):
    """Matches every pixel of a grid with the pixel at the same place of the other picture."""

    name = "same"

    def __init__(self) -> None:
        super().__init__(torch.nn.Identity(), 0.0, "cpu")
        self.begun: list[tuple[int, ...]] = []

    def begin(self, picture: torch.Tensor) -> torch.Tensor:
        self.begun.append(tuple(picture.shape))
        return picture

    def compare(self, begun: torch.Tensor, picture: torch.Tensor) -> Points:
        sides = (min(begun.shape[side], picture.shape[side]) for side in (2, 3))
        rows, columns = torch.meshgrid(*(torch.arange(0, side, 5.0) for side in sides), indexing="ij")
        places = torch.stack([columns, rows], dim=-1).view(-1, 2)
        return Points(places, places, torch.linspace(0.1, 0.9, len(places)))


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def picture(pixels: np.ndarray, size: int = 64, bbox: Any = None) -> GreyPicture:
    extractor = load_keypoints("picture", size=size)
    (found,) = extractor.extract([extractor.prepare(pixels, bbox)])
    assert isinstance(found, GreyPicture)
    return found


def test_a_picture_has_pixels_and_no_keypoints() -> None:
    found = picture(photo(90, 120), 64, (10, 20, 110, 80))
    assert (len(found), found.pixels.shape, found.pixels.dtype) == (0, (32, 64), np.uint8)
    assert found.region == (10, 20, 110, 80)
    assert found.first(3) is found
    with pytest.raises(UsageError, match="no weights"):
        load_keypoints("picture", "weights.pth")


def test_points_are_in_pixels_of_the_originals_strongest_first() -> None:
    first, second = picture(photo(90, 120), 64, (10, 20, 110, 80)), picture(photo(256, 128, 1))
    (found,) = SamePlaces().match([(first, second)])
    assert found.xy is not None
    assert (np.diff(found.scores) <= 0).all()
    left, right = found.xy
    # 100 x 60 pixels from (10, 20) as 64 x 32, and 128 x 256 as 32 x 64.
    places = (left - (10, 20) + 0.5) * (64 / 100, 32 / 60) - 0.5
    np.testing.assert_allclose(places, (right + 0.5) / 4 - 0.5, atol=1e-4)
    assert len(found.strongest(3)) == 3
    assert found.strongest(3).scores.min() >= found.scores[2]


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.integers(1, 90))
def test_nothing_is_found_in_the_padding(h0: int, w0: int, h1: int, w1: int) -> None:
    first, second = picture(photo(h0, w0)), picture(photo(h1, w1, 1))
    (found,) = SamePlaces().match([(first, second)])
    assert found.xy is not None
    for places, (height, width) in zip(found.xy, ((h0, w0), (h1, w1)), strict=True):
        assert (places >= -0.5).all()
        assert (places < (width - 0.5, height - 0.5)).all()


def test_one_colour_and_unreadable_photos_have_no_matches() -> None:
    plain = picture(np.full((60, 80, 3), 7, np.uint8))
    some, gone = picture(photo(60, 80)), random_keypoints(0, 0, 4)
    found = SamePlaces().match([(some, plain), (plain, some), (some, gone), (gone, some), (some, some)])
    assert [len(matches) > 0 for matches in found] == [False, False, False, False, True]


def test_what_the_query_needs_alone_is_computed_once_and_threads_change_nothing() -> None:
    query, others = picture(photo(60, 80)), [picture(photo(70, 50, seed)) for seed in range(1, 6)]
    matcher = SamePlaces()
    together = matcher.match([(query, other) for other in others])
    assert matcher.begun == [(1, 1, 64, 64)]
    for matches, other in zip(together, others, strict=True):
        same(matches, matcher.match([(query, other)])[0])


def same(one: Matches, other: Matches) -> None:
    assert one.xy is not None
    assert other.xy is not None
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(np.stack(one.xy), np.stack(other.xy))


def test_the_reranker_counts_as_many_matches_as_keypoints() -> None:
    reranker = MatchingReranker(SamePlaces(), "picture", keypoints=20, verification="none")
    found = reranker.match_images([(picture(photo(60, 80)), picture(photo(60, 80, 1)))])[0]
    assert len(found.scores) == 20
    assert reranker._scores([found])[0] <= 1


@pytest.mark.parametrize("name", ["loftr", "eloftr"])
def test_dense_matchers_take_pictures_and_need_weights(name: str) -> None:
    assert features_for(name, "xfeat") == "picture"
    with pytest.raises(UsageError, match="takes keypoints of picture, not of 'xfeat'"):
        load_matcher(name, "xfeat")
    with pytest.raises(RelookError, match=f"{name} needs its weights: give .* --set rerank.matching.checkpoint=FILE"):
        load_matcher(name, "picture")
    with pytest.raises(RelookError, match="no such checkpoint"):
        load_matcher(name, "picture", "missing.ckpt")


@pytest.fixture(scope="module")
def loftr_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as its authors publish it, with random values."""
    from kornia.feature import LoFTR

    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("loftr") / "loftr_outdoor.ckpt"
    state = {f"matcher.{key}": value for key, value in LoFTR(None).state_dict().items()}
    # Attention of random weights blurs all cells into one: without its last norm the cells are those of the backbone.
    for key in state:
        if "loftr_coarse" in key and "norm2" in key:
            state[key] = torch.zeros_like(state[key])
    torch.save({"state_dict": state}, file)
    return file


def test_loftr_finds_what_its_network_finds(loftr_file: Path) -> None:
    from kornia.feature import LoFTR
    from kornia.feature.loftr.loftr import default_cfg

    matcher = load_matcher("loftr", "picture", loftr_file, threshold=0.0)
    matcher.check(KeypointsCard("picture", "", {}, 0))
    whole = np.kron(photo(16, 16), np.ones((8, 8, 1), np.uint8))
    first, second = picture(whole[:, :96], 128), picture(whole[:, 32:], 128)
    (found,) = matcher.match([(first, second)])
    network = LoFTR(None, {**default_cfg, "match_coarse": {**default_cfg["match_coarse"], "thr": 0.0}}).eval()
    network.load_state_dict(torch.load(loftr_file, weights_only=True)["state_dict"])
    images = [torch.from_numpy(one.pixels)[None, None].float() / 255 for one in (first, second)]
    with torch.inference_mode():
        expected = network({"image0": images[0], "image1": images[1]})
    assert found.xy is not None
    assert len(found) > 0
    order = np.argsort(-expected["confidence"].numpy(), kind="stable")
    for places, key in zip(found.xy, ("keypoints0", "keypoints1"), strict=True):
        np.testing.assert_allclose(places, expected[key].numpy()[order] - 0.5, atol=1e-3)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    torch.save({"some.weight": torch.zeros(3)}, tmp_path / "other.ckpt")
    with pytest.raises(RelookError, match="a checkpoint of another architecture"):
        load_matcher("loftr", "picture", tmp_path / "other.ckpt")


def plainly_refined(
    first: np.ndarray, second: np.ndarray, regressed: int, temperature: float
) -> tuple[np.ndarray, np.ndarray]:
    """One match [W * W, c], [(W + 2)^2, c] in the words of the paper."""
    side = round(len(first) ** 0.5)
    c = first.shape[1]
    similarity = first[:, :-regressed] @ second[:, :-regressed].T / c
    exponents = np.exp(similarity)
    scores = exponents / exponents.sum(0) * (exponents / exponents.sum(1, keepdims=True))
    best, place = -1.0, (0, 0, 0)
    for pixel in range(side * side):
        for row in range(side):
            for column in range(side):
                value = scores[pixel, (row + 1) * (side + 2) + column + 1]
                if value > best:
                    best, place = value, (pixel, row, column)
    pixel, row, column = place
    middle = side // 2 - 0.5
    near = {}
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            at = (row + down) % (side + 2) * (side + 2) + (column + right) % (side + 2)
            value = first[pixel, -regressed:] @ second[at, -regressed:] / regressed**0.5
            near[right, down] = np.exp(value / temperature)
    total = sum(near.values())
    mean = np.array([sum(step[axis] * value for step, value in near.items()) / total for axis in (0, 1)])
    return (
        np.array([pixel % side - middle, pixel // side - middle]),
        np.array([column - middle, row - middle]) + mean,
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 5), st.sampled_from([2, 4, 8]), st.integers(0, 2**31 - 1))
def test_refinement_is_that_of_the_paper(count: int, side: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    first = random.normal(size=(count, side**2, 6))
    second = random.normal(size=(count, (side + 2) ** 2, 6))
    found = refined(torch.from_numpy(first), torch.from_numpy(second), 2, 10.0)
    for number in range(count):
        for one, expected in zip(found, plainly_refined(first[number], second[number], 2, 10.0), strict=True):
            np.testing.assert_allclose(one[number].numpy(), expected, atol=1e-9)


def test_without_transformers_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.rerank.matching.eloftr.find_spec", lambda name: None)
    torch.save({"some.weight": torch.zeros(3)}, tmp_path / "model.pt")
    with pytest.raises(RelookError, match=r"pip install 'relook\[eloftr\]'"):
        load_matcher("eloftr", "picture", tmp_path / "model.pt")


class Codes(torch.nn.Module):
    """In the place of Efficient LoFTR's network: random codes of the grey values, averaged over a cell."""

    config = SimpleNamespace(
        coarse_matching_temperature=0.01,
        coarse_matching_border_removal=2,
        fine_matching_slice_dim=8,
        fine_matching_regress_temperature=10.0,
    )

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.codes = 9 * torch.randn(256, 56, generator=generator)

    def efficientloftr(self, pictures: torch.Tensor) -> Any:
        values = (pictures[0, :, 0] * 255).round().long()
        pixels = self.codes[values].permute(0, 3, 1, 2)
        return SimpleNamespace(feature_maps=[functional.avg_pool2d(pixels, 8)[None], pixels[None]])

    def refinement_layer(self, cells: torch.Tensor, finer: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.cat([finer[0][0], torch.zeros_like(finer[0][0][:, :8])], dim=1)
        windows = []
        for side, padding, one in ((8, 0, pixels[:1]), (10, 1, pixels[1:])):
            unfolded = functional.unfold(one, side, stride=8, padding=padding)
            windows.append(unfolded.view(1, pixels.shape[1], side * side, -1).permute(0, 3, 2, 1))
        return windows[0], windows[1]


def test_eloftr_finds_a_shift_in_pictures_of_two_sizes() -> None:
    whole = photo(96, 160)
    first, second = picture(whole[:, :128], 128), picture(whole[:, 64:], 96)
    (found,) = EfficientLoFTRMatcher(Codes(), 0.2, "cpu").match([(first, second)])
    assert found.xy is not None
    # Both show 64 x 96 pixels, of which two cells at each side do not count; codes of some cells are alike.
    right = np.abs(found.xy[0] - found.xy[1] - (64, 0)).max(axis=1) < 1
    assert right.sum() > 20
    assert right.mean() > 0.75


@pytest.mark.slow  # the network has 16 million parameters
@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is optional")
def test_eloftr_reads_the_published_file(tmp_path: Path) -> None:
    import transformers
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = transformers.EfficientLoFTRForKeypointMatching(transformers.EfficientLoFTRConfig()).eval()
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    matcher = load_matcher("eloftr", "picture", tmp_path / "model.safetensors", threshold=0.0)
    found = matcher.match([(picture(photo(64, 96), 96), picture(photo(96, 64, 1), 96))])[0]
    assert found.xy is not None
    assert np.isfinite(np.stack(found.xy)).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
