"""The papers' describers on odd pictures and wrong files; what they cannot say about themselves in parity tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.checkpoints import read_checkpoint, write_checkpoint
from pipeline.describe import describer_for_card, load_describer
from pipeline.describe.official_checkpoints import LAYOUTS, recognise, registry_name, to_official, to_relook
from pipeline.describe.presets import PRESETS
from pipeline.errors import RelookError, UsageError
from pipeline.rerank.checkpoints import save_checkpoint
from pipeline.rerank.rrt.network import RRTNetwork, RRTShape
from pipeline.rerank.rrt.reranker import RRTReranker
from pipeline.stages.convert import convert

SMALL = ("cvnet_r50", "superglobal_r50", "delg_r50", "sop_r50")


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, width, height)).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=SMALL)
def describer(request: pytest.FixtureRequest) -> Any:
    return load_describer(request.param, weights="random")


@pytest.fixture(scope="module")
def cvnet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What CVNet's authors would have released, with random weights."""
    describer = load_describer("cvnet_r50", weights="random")
    ours = {f"maps.{key}": value for key, value in describer.network.maps.state_dict().items()}
    ours |= {key: value for key, value in describer.network.state_dict().items() if not key.startswith("maps.")}
    layout = next(layout for layout in LAYOUTS if layout.name == "cvnet")
    state = {layout.to_official(key): value for key, value in ours.items()}
    path = tmp_path_factory.mktemp("cvnet") / "cvnet.pyth"
    torch.save({"model_state": state}, path)
    return path


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (70, 3), (33, 65), (64, 64)])
def test_pictures_of_any_size(describer: Any, size: tuple[int, int]) -> None:
    found = describer.describe([describer.prepare(picture(*size))])[0]
    assert found.vector.shape == (describer.card.dimension,)
    assert np.isfinite(found.vector).all()
    assert np.linalg.norm(found.vector) == pytest.approx(1, abs=1e-5)
    if found.locals is not None and len(found.locals):
        assert np.isfinite(found.locals.descriptors).all()
        assert (found.locals.xy >= 0).all()
        assert (found.locals.xy <= np.array(size) + 1).all()
    if found.maps is not None:
        assert [level.shape[0] for level in found.maps] == [256, 256, 256]
        assert all(np.isfinite(level).all() for level in found.maps)


def test_a_batch_describes_as_one_by_one(describer: Any) -> None:
    prepared = [describer.prepare(picture(80, 64, seed)) for seed in range(3)]
    together = describer.describe(prepared)
    for item, expected in zip(prepared, together, strict=True):
        alone = describer.describe([item])[0]
        np.testing.assert_allclose(alone.vector, expected.vector, atol=2e-6)
        for one, other in zip(alone.maps or (), expected.maps or (), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)


def test_every_name_builds_and_its_card_makes_it_again() -> None:
    for name in PRESETS:
        if name.endswith("r101"):
            continue
        made = load_describer(name, weights="random")
        again = describer_for_card(made.card, made.fitted())
        assert again.card == made.card
        assert made.card.random


def test_the_deep_ones_have_more_blocks() -> None:
    deep = load_describer("cvnet_r101", weights="random", maps={"levels": ()})
    first = [name for name in deep.network.state_dict() if name.endswith("conv1.weight")]
    assert sum(name.startswith("backbone.model.layer3.") for name in first) == 23


def test_delg_locals_are_the_strongest_by_attention_at_their_places() -> None:
    options = {"locals": {"count": 7, "threshold": 0.0, "scales": (0.5, 1.0, 2.0)}}
    describer = load_describer("delg_r50", weights="random", **options)
    found = describer.describe([describer.prepare(picture(96, 64), (16.0, 8.0, 80.0, 60.0))])[0].locals
    assert found.descriptors.shape == (7, 128)
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-5)
    assert (np.diff(found.weight) <= 0).all()
    # DELF's convention: what is seen at half the size is seen twice as large.
    assert set(found.scale.tolist()) <= {2.0, 1.0, 0.5}
    assert (found.xy >= (16, 8)).all()
    assert (found.xy <= (80, 60)).all()
    cut = float(np.median(found.weight))
    fewer = load_describer("delg_r50", weights="random", locals={**options["locals"], "threshold": cut})
    kept = fewer.describe([fewer.prepare(picture(96, 64), (16.0, 8.0, 80.0, 60.0))])[0].locals
    assert len(kept) == int((found.weight >= cut).sum()) < 7


def test_sop_locals_are_a_whole_map_as_it_is() -> None:
    describer = load_describer("sop_r50", weights="random")
    found = describer.describe([describer.prepare(picture(300, 200))])[0].locals
    assert found.descriptors.shape == (49, 128)
    assert not np.allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-2)
    # Row by row over the central crop of the picture, which was squashed to a square.
    grid = found.xy.reshape(7, 7, 2)
    assert (np.diff(grid[..., 0], axis=1) > 0).all()
    assert (np.diff(grid[..., 1], axis=0) > 0).all()
    np.testing.assert_allclose(grid[3, 3], (150, 100), atol=1)


def test_a_long_side_is_limited_where_that_is_asked_for() -> None:
    describer = load_describer("cvnet_r50", weights="random", image={"max_side": 64}, maps={"levels": ()})
    prepared = describer.prepare(picture(256, 128))
    assert [pixels.shape[1:] for pixels in prepared.pixels] == [(23, 45), (32, 64), (45, 91)]
    for _, (sx, _, dx, _) in zip(prepared.pixels, prepared.to_original, strict=True):
        assert dx == 0
        assert sx in [pytest.approx(4 / scale) for scale in (0.7071, 1.0, 1.4142)]


def test_weights_have_to_be_given() -> None:
    with pytest.raises(RelookError, match=r"cvnet_r50 do not come with relook: give --set describe\.checkpoint=FILE"):
        load_describer("cvnet_r50")


def test_wrong_files_are_one_line_each(cvnet_file: Path, tmp_path: Path) -> None:
    state = read_checkpoint(cvnet_file).state

    def refused(changed: dict[str, torch.Tensor], message: str, name: str = "cvnet_r50") -> None:
        torch.save({"model_state": changed}, tmp_path / "wrong.pyth")
        with pytest.raises(RelookError, match=message) as caught:
            load_describer(name, tmp_path / "wrong.pyth")
        assert str(tmp_path / "wrong.pyth") in str(caught.value)

    missing = {key: value for key, value in state.items() if key != "encoder_q.s2.b1.f.a.weight"}
    refused(missing, r"1 missing \(backbone\.model\.layer2\.0\.conv1\.weight\)")
    refused({**state, "encoder_q.extra": torch.zeros(1)}, r"1 unexpected \(encoder_q\.extra\)")
    refused({**state, "encoder_q.head.fc.bias": torch.zeros(3)}, r"1 of another shape \(head\.fc\.bias\)")
    refused(state, r"missing \(backbone\.model\.layer3\.10", "cvnet_r101")
    unknown = "not a checkpoint of CVNet, SuperGlobal, DELG or RRT's product network"
    refused({"unrelated.weight": torch.zeros(1)}, unknown)
    alone = {key: value for key, value in state.items() if not key.startswith("conv2ds.")}
    refused(alone, r"holds no conv2ds.*describe\.maps\.levels=\[\]")
    without = load_describer("cvnet_r50", tmp_path / "wrong.pyth", maps={"levels": ()})
    assert without.card.settings["maps"]["channels"] == 0
    no_exponent = {key: value for key, value in state.items() if key != "encoder_q.head.pool.p"}
    refused(no_exponent, r"1 missing \(head\.p\)")


def test_what_a_model_lacks_is_said() -> None:
    with pytest.raises(RelookError, match="cvnet_r50 has no attention; delg_r50 has"):
        load_describer("cvnet_r50", weights="random", locals={"count": 5, "kind": "attention"})
    with pytest.raises(RelookError, match="no attention; delg_r50 has"):
        load_describer("efficientnet_lite0", locals={"kind": "attention"})
    with pytest.raises(RelookError, match="sop_r50 has no conv2ds"):
        load_describer("sop_r50", weights="random", maps={"levels": (1.0,), "projection": "checkpoint"})
    with pytest.raises(RelookError, match="gives no map before a ReLU"):
        load_describer("efficientnet_lite0", locals={"stage": 2, "pre_relu": True})
    with pytest.raises(RelookError, match=r"describe\.superglobal\.relup: efficientnet_lite0 has no place for it"):
        load_describer("efficientnet_lite0", superglobal={})
    with pytest.raises(UsageError, match="interpolation = opencv resizes by a factor"):
        load_describer("cvnet_r50", weights="random", image={"resize": "area"})


def test_official_names_translate_both_ways(cvnet_file: Path) -> None:
    file = read_checkpoint(cvnet_file)
    assert recognise(file.state) is LAYOUTS[0]
    assert registry_name(file.state) == "cvnet_r50"
    ours = to_relook(file)
    assert "backbone.model.layer1.0.downsample.1.running_var" in ours.state
    assert to_official(ours, "cvnet").keys() == file.state.keys()


def test_convert_there_and_back_changes_nothing(cvnet_file: Path, tmp_path: Path) -> None:
    own, back = tmp_path / "cvnet.safetensors", tmp_path / "cvnet.pyth"
    made = convert(cvnet_file, own)
    assert (made.name, made.kind, made.format) == ("cvnet_r50", "describer", "relook")
    assert convert(own, back).format == "official"
    before, after = read_checkpoint(cvnet_file).state, read_checkpoint(back).state
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    card = load_describer("cvnet_r50", cvnet_file).card
    assert load_describer("cvnet_r50", own).card == card
    assert read_checkpoint(own).header["card"] == card.to_json()
    load_describer("superglobal_r50", own)  # the same weights
    with pytest.raises(RelookError, match="a checkpoint of cvnet_r50, not of delg_r50"):
        load_describer("delg_r50", own)


def test_convert_says_what_an_official_file_has_no_place_for(tmp_path: Path) -> None:
    network = RRTNetwork(RRTShape(16, 8, 4, 1, 16))
    plain, tuned = RRTReranker(network), RRTReranker(network, weight=0.3, temperature=0.25)
    for name, reranker, left_out in (("plain", plain, []), ("tuned", tuned, ["weight", "temperature"])):
        save_checkpoint(tmp_path / f"{name}.safetensors", reranker.to_checkpoint())
        assert convert(tmp_path / f"{name}.safetensors", tmp_path / f"{name}.pt").left_out == left_out
    other = RRTReranker(RRTNetwork(RRTShape(16, 8, 4, 1, 16, scale_rule="nearest")))
    save_checkpoint(tmp_path / "other.safetensors", other.to_checkpoint())
    with pytest.raises(RelookError, match=r"the official rrt cannot do what this one does .*nearest"):
        convert(tmp_path / "other.safetensors", tmp_path / "other.pt")
    assert not (tmp_path / "other.pt").exists()


def test_convert_refuses_what_it_cannot_do(cvnet_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected \.safetensors"):
        convert(cvnet_file, tmp_path / "x.onnx")
    with pytest.raises(RelookError, match=r"give a target that ends in \.safetensors"):
        convert(cvnet_file, tmp_path / "x.pt")
    torch.save({"a.weight": torch.zeros(1)}, tmp_path / "unknown.pt")
    with pytest.raises(RelookError, match="weights of no model that relook knows"):
        convert(tmp_path / "unknown.pt", tmp_path / "x.safetensors")
    write_checkpoint(tmp_path / "own.safetensors", {"a": torch.zeros(1)}, {"name": "nothing"})
    with pytest.raises(RelookError, match="nothing has no official format"):
        convert(tmp_path / "own.safetensors", tmp_path / "x.pt")
    assert not (tmp_path / "x.pt").exists()
