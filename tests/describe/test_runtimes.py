"""Compiled runtimes: the same descriptors and the same card as torch, or torch itself with a warning."""

from __future__ import annotations

from importlib import util
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.describe import load_describer
from pipeline.describe.ames_projection import AMESProjection
from pipeline.describe.carried import carried_describer
from pipeline.describe.describer import NetworkDescriber
from pipeline.describe.exported import ExportedDescriber, _for_ames
from pipeline.describe.runtimes import registry
from pipeline.describe.runtimes.compiled_backbone import CompiledBackbone
from pipeline.describe.runtimes.export import ExportedNetwork
from pipeline.describe.runtimes.registry import RUNTIMES, open_session
from pipeline.errors import RelookError, UsageError
from pipeline.types import Description

SMALL: dict[str, Any] = {"image": {"size": 96}, "locals": {"count": 12, "dimension": 8}}


def pictures() -> list[np.ndarray]:
    """Three pictures of two shapes, with edges of every size."""
    rng = np.random.default_rng(0)
    coarse = [
        rng.integers(0, 256, (h // 8, w // 8, 3)).repeat(8, 0).repeat(8, 1) for h, w in [(96, 128)] * 2 + [(160, 96)]
    ]
    return [np.clip(one + rng.integers(-20, 20, one.shape), 0, 255).astype(np.uint8) for one in coarse]


def described(describer: Any) -> list[Description]:
    """The pictures one by one, then the first two together."""
    prepared = [describer.prepare(picture) for picture in pictures()]
    return [describer.describe([one])[0] for one in prepared] + describer.describe(prepared[:2])


@pytest.fixture(scope="module")
def fitted() -> NetworkDescriber:
    """The packaged network with torch, its projections fitted."""
    made = load_describer("efficientnet_lite0", **SMALL)
    made.fit([[made.prepare(picture)] for picture in pictures()])
    assert isinstance(made, NetworkDescriber)
    return made


def assert_same(found: list[Description], wanted: list[Description]) -> None:
    for mine, theirs in zip(found, wanted, strict=True):
        assert 1 - float(mine.vector.astype(float) @ theirs.vector.astype(float)) < 1e-6
        np.testing.assert_allclose(mine.vector, theirs.vector, atol=1e-5)
        assert mine.locals is not None
        assert theirs.locals is not None
        for name in ("descriptors", "xy", "scale", "weight"):
            np.testing.assert_allclose(getattr(mine.locals, name), getattr(theirs.locals, name), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_gives_the_descriptors_and_the_fingerprint_of_torch(runtime: str, fitted: NetworkDescriber) -> None:
    pytest.importorskip(RUNTIMES[runtime].package)
    compiled = load_describer("efficientnet_lite0", runtime=runtime, **SMALL)
    compiled.use_fitted(fitted.fitted())
    assert compiled.card.to_json() == fitted.card.to_json()
    assert_same(described(compiled), described(fitted))
    assert isinstance(compiled, NetworkDescriber)
    assert isinstance(compiled.network.backbone, CompiledBackbone)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_an_index_carries_describes_like_the_network(runtime: str, fitted: NetworkDescriber) -> None:
    pytest.importorskip(RUNTIMES[runtime].package)
    graph, spec = carried_describer(fitted)
    found = ExportedDescriber(fitted.card, fitted.fitted(), spec, open_session(runtime, graph))
    assert_same(described(found), described(fitted))
    assert found.card == fitted.card
    assert found.icc == fitted.icc


@pytest.mark.parametrize(
    "options",
    [
        {"globals": {"p": 3.0, "scales": [1.0], "whiten": 2}, "locals": {"count": 4, "kind": "map", "dimension": None}},
        {"globals": {"scales": [0.7071, 1.0]}, "locals": {"count": 6, "stage": 3, "scales": [1.0], "threshold": 1.0}},
        {"image": {"size": 64, "channels": "bgr", "resize": "exact"}, "locals": {"count": 0}},
    ],
)
def test_other_settings_are_carried_as_well(options: dict[str, Any]) -> None:
    made = load_describer("resnet10t", weights="random", **{"image": {"size": 96}, **options})
    made.fit([[made.prepare(picture)] for picture in pictures()])
    assert isinstance(made, NetworkDescriber)
    graph, spec = carried_describer(made)
    found = ExportedDescriber(made.card, made.fitted(), spec, open_session("onnxruntime", graph))
    for mine, theirs in zip(described(found), described(made), strict=True):
        np.testing.assert_allclose(mine.vector, theirs.vector, atol=1e-5)
        assert (mine.locals is None) == (theirs.locals is None)
        if mine.locals is not None and theirs.locals is not None:
            np.testing.assert_allclose(mine.locals.xy, theirs.locals.xy, atol=1e-4)
            np.testing.assert_allclose(mine.locals.descriptors, theirs.locals.descriptors, rtol=1e-3, atol=1e-4)


def test_what_needs_torch_is_not_carried() -> None:
    options: dict[str, Any] = {"image": {"size": 64}, "globals": {"scales": [1.0]}, "locals": {"count": 0}}
    made = load_describer("resnet10t", weights="random", maps={"levels": [1.0], "projection": "none"}, **options)
    assert isinstance(made, NetworkDescriber)
    with pytest.raises(RelookError, match=r"describe\.maps\.levels: computed by torch only"):
        carried_describer(made)


@pytest.mark.parametrize("bits", [True, False])
def test_the_projection_for_ames_without_torch(bits: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {"0.weight": (4, 6), "0.bias": (4,), "1.weight": (4,), "1.bias": (4,)}
    if bits:
        shapes = {"0.W": (6, 4)}
    weights = {f"remap_local.{key}": torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    projection = AMESProjection(weights)
    features = torch.randn(2, 5, 6, generator=generator)
    features[0, 0] = 0
    wanted = projection.apply(features).numpy()
    np.testing.assert_allclose(_for_ames(projection.arrays(), features.numpy()), wanted, atol=1e-5)


def test_torch_goes_on_where_a_network_cannot_be_exported(caplog: pytest.LogCaptureFixture) -> None:
    """A transformer resizes its table of positions with an operator that ONNX lacks."""
    options: dict[str, Any] = {"weights": "random", "locals": {"count": 0}, "globals": {"scales": [1.0]}}
    plain = load_describer("vit_tiny_patch16_224", **options)
    compiled = load_describer("vit_tiny_patch16_224", runtime="onnxruntime", **options)
    for mine, theirs in zip(described(compiled), described(plain), strict=True):
        np.testing.assert_array_equal(mine.vector, theirs.vector)
    assert len(caplog.messages) == 1
    assert "described with torch instead of onnxruntime: torch cannot export the network" in caplog.messages[0]


def test_a_graph_that_depends_on_the_size_of_its_example_is_refused() -> None:
    class Sized(nn.Module):
        """Multiplies by a number that Python makes of the width, which tracing writes down as it is."""

        patch, fixed_size = 1, None

        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 4, 1)

        def forward(self, images: torch.Tensor, taps: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
            return self.convolution(images) + float(int(images.shape[-1]) % 7), []

    network: Any = Sized().eval().requires_grad_(False)
    exported = ExportedNetwork(network, network, [], {}, 1)
    with pytest.raises(RelookError, match=r"differs from torch at \d+ x \d+ pixels \(final: cosine distance"):
        exported.check(open_session("onnxruntime", exported.graph))


def test_a_describer_is_torchs_unless_a_runtime_is_named(fitted: NetworkDescriber) -> None:
    assert not isinstance(fitted.network.backbone, CompiledBackbone)


def test_what_a_runtime_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = (
        r"runs with describe\.precision = float32 only, not bfloat16; choose describe\.runtime = openvino or torch"
    )
    with pytest.raises(RelookError, match=refused):
        load_describer("resnet10t", weights="random", runtime="onnxruntime", precision="bfloat16")
    with pytest.raises(UsageError, match=r"runtime"):
        load_describer("resnet10t", weights="random", runtime="tensorrt")
    monkeypatch.setattr(registry.util, "find_spec", lambda name: None)
    with pytest.raises(RelookError, match=r"openvino is not installed; run: pip install 'relook\[openvino\]'"):
        load_describer("resnet10t", weights="random", runtime="openvino")
    assert util.find_spec is registry.util.find_spec
