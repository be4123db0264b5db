"""Backbones from timm by name, with their weights and the preprocessing that they were trained with.

Used by the describer, which pools their maps. Weights come from the installed package (EfficientNet-Lite0), from a
local file, from timm's hub, or are random when that is asked for; nothing falls back to anything else.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import timm
import torch
from torch import nn

from pipeline.checkpoints import Checkpoint, hash_weights, read_checkpoint
from pipeline.describe import packaged_weights as embedded
from pipeline.errors import RelookError, unknown_name

RANDOM = "random weights (seed 0)"

# Registry names that are not timm's own.
ALIASES = {"efficientnet_lite0": embedded.TIMM_NAME}

Triple = tuple[float, float, float]


class Tap(NamedTuple):
    """A stage whose map is wanted beside the final one: its index (negative: from the end)."""

    stage: int
    pre_relu: bool = False


class Backbone(nn.Module):
    """A timm model seen as a source of maps.

    Attributes:
        architecture: timm's name.
        weights: "sha256:..." of the weights, or `RANDOM`.
        mean, std: per RGB channel of values in [0, 1], as the weights were trained.
        multiple: sides of the input have to be multiples of this many pixels.
        channels: of the final map.
        learned_p: the GeM exponent that came with the checkpoint, or None.
    """

    def __init__(self, model: nn.Module, architecture: str, weights: str, learned_p: float | None = None) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.architecture = architecture
        self.weights = weights
        self.learned_p = learned_p
        plain = cast(Any, model)
        config = plain.pretrained_cfg
        own = architecture == embedded.TIMM_NAME
        self.mean: Triple = embedded.MEAN if own else tuple(config["mean"])
        self.std: Triple = embedded.STD if own else tuple(config["std"])
        self.multiple = max(int(info["reduction"]) for info in plain.feature_info)
        self.stages = len(plain.feature_info)
        self.channels = int(plain.num_features)

    def forward(self, images: torch.Tensor, taps: Sequence[Tap] = ()) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The maps of normalised images.

        Args:
            images: [B, 3, H, W] float.
            taps: stages whose maps are wanted too. Only ResNets know maps before a ReLU.

        Returns:
            The final map [B, C, h, w], and one map [B, C', h', w'] per tap.
        """
        indices = sorted({self.stages - 1, *(tap.stage % self.stages for tap in taps)})
        last, maps = cast(Any, self.model).forward_intermediates(images, indices=indices, norm=True)
        final = self._final(last, maps)
        return final, [maps[indices.index(tap.stage % self.stages)] for tap in taps]

    def has_pre_relu(self, tap: Tap | None) -> bool:
        """Whether it can show this stage's map before its last ReLU."""
        return False

    def _final(self, last: torch.Tensor, stages: list[torch.Tensor]) -> torch.Tensor:
        if last.ndim != 4:  # a transformer's tokens: its last block's map holds the same values in their places
            return stages[-1]
        if last.shape[1] != self.channels and last.shape[-1] == self.channels:
            return last.permute(0, 3, 1, 2)
        return last


def load_backbone(
    name: str, *, weights: Literal["pretrained", "random"], checkpoint: Path | None, classifier: bool = True
) -> Backbone:
    """Build a backbone.

    Args:
        name: a timm model name, or one of `ALIASES`.
        weights: "random" draws them from seed 0.
        checkpoint: a local file of weights in timm's names (safetensors or a state dict saved by torch).
        classifier: False leaves ImageNet's classifier out, which describes nothing.

    Raises:
        UsageError: no such model.
        RelookError: the weights cannot be had, or are of another architecture; the message says which keys.
    """
    architecture = ALIASES.get(name, name)
    if not timm.is_model(architecture):
        raise unknown_name("describer", name, [*ALIASES, *timm.list_models(), *timm.list_models(pretrained=True)])
    if weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            options = {} if classifier else {"num_classes": 0}
            return Backbone(_create(architecture, **options), architecture, RANDOM)
    if checkpoint is not None:
        file = _read(checkpoint)
        learned_p = file.state.pop("pool.p", None)
        model = _create(architecture, num_classes=0)
        _load(model, file)
        digest = hash_weights(model.state_dict())
        return Backbone(model, architecture, digest, None if learned_p is None else float(learned_p))
    if architecture == embedded.TIMM_NAME:
        model = _create(architecture)
        model.load_state_dict(embedded.load_embedded(), strict=True)
    else:
        model = _from_hub(architecture)
    return Backbone(model, architecture, hash_weights(model.state_dict()))


def _create(architecture: str, **options: Any) -> nn.Module:
    try:  # transformers accept any input size only when asked
        return timm.create_model(architecture, dynamic_img_size=True, **options)
    except TypeError:
        return timm.create_model(architecture, **options)


def _from_hub(architecture: str) -> nn.Module:
    quiet = logging.getLogger("huggingface_hub")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        return _create(architecture, pretrained=True, num_classes=0)
    except Exception as error:  # the hub's client raises its own and its transport's types
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RelookError(
            f"the weights of {architecture!r} are neither in the local cache nor could they be fetched ({reason}); "
            "give --set describe.checkpoint=FILE, or --set describe.weights=random to run without them"
        ) from None
    finally:
        quiet.setLevel(level)


def _read(path: Path) -> Checkpoint:
    """A file of weights in timm's names."""
    file = read_checkpoint(path)
    return Checkpoint(path, embedded.rename(file.state)) if embedded.is_original(file.state) else file


def _load(model: nn.Module, file: Checkpoint) -> None:
    """Load every key; the classifier's may be there, because the model is built without one."""
    classifier = cast(Any, model).pretrained_cfg.get("classifier", ())
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    prefixes = tuple(f"{head}." for head in heads)
    body = {key: value for key, value in file.state.items() if not key.startswith(prefixes)}
    Checkpoint(file.path, body).load_into(model)
