"""Backbones from timm by name, with their weights and the preprocessing that they were trained with.

Used by the describer, which pools their maps. Weights come from the installed package (EfficientNet-Lite0), from a
local file, from timm's hub, or are random where the configuration says so; there is no fallback from one to another.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import timm
import torch
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import nn

from pipeline.checkpoints import Checkpoint, hash_weights, read_checkpoint
from pipeline.describe import packaged_weights
from pipeline.errors import RelookError, unknown_name

RANDOM = "random weights (seed 0)"

# Registry names that are not timm's own.
ALIASES = {"efficientnet_lite0": packaged_weights.TIMM_NAME}

# Keys by which an official file of DINOv2 is recognised.
_DINOV2 = {"mask_token", "register_tokens"}

# Before names on the Hugging Face hub that are timm's own.
_HUB_PREFIXES = ("hf-hub:timm/", "hf_hub:timm/", "timm/")

Triple = tuple[float, float, float]


class Tap(NamedTuple):
    """A stage whose map is requested beside the final one: its index (negative: from the end)."""

    stage: int
    pre_relu: bool = False


class Backbone(nn.Module):
    """A timm model that gives feature maps.

    Attributes:
        architecture: timm's name.
        weights: "sha256:..." of the weights, or `RANDOM`.
        mean, std: per RGB channel of values in [0, 1], as the weights were trained.
        reductions: of each stage, how many pixels of the input a step of its map is.
        multiple: sides of the input have to be multiples of this many pixels.
        patch: sides have to be multiples of this many pixels, or the network fails; 1: any side.
        fixed_size: (height, width) in pixels of the only input that the network takes; None: any size.
        probed_size: (height, width) in pixels on which the network was run when it was built; None: it was not.
        native_size: (height, width) in pixels that its weights were trained on.
        may_be_fixed: whether timm declares one input size, which many of its models do not need.
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
        if not getattr(plain, "feature_info", None) or not hasattr(plain, "forward_intermediates"):
            raise RelookError(f"{architecture} gives no feature maps in timm {timm.__version__}; choose another model")
        config = plain.pretrained_cfg
        own = architecture == packaged_weights.TIMM_NAME
        self.mean: Triple = packaged_weights.MEAN if own else tuple(config["mean"])
        self.std: Triple = packaged_weights.STD if own else tuple(config["std"])
        self.reductions = tuple(int(info["reduction"]) for info in plain.feature_info)
        self.multiple = max(self.reductions)
        self.stages = len(plain.feature_info)
        self.channels = int(plain.num_features)
        self.patch = 1
        self.fixed_size: tuple[int, int] | None = None
        self.probed_size: tuple[int, int] | None = None
        self.native_size = int(config["input_size"][1]), int(config["input_size"][2])
        self.may_be_fixed = bool(config.get("fixed_input_size"))
        self._norm = True

    def forward(self, images: torch.Tensor, taps: Sequence[Tap] = ()) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The maps of normalised images.

        Args:
            images: [B, 3, H, W] float.
            taps: stages whose maps are requested too. Only ResNets have maps before a ReLU.

        Returns:
            The final map [B, C, h, w], and one map [B, C', h', w'] per tap.
        """
        final, tapped, _ = self._run(images, taps)
        return final, tapped

    def with_class_token(
        self, images: torch.Tensor, taps: Sequence[Tap] = ()
    ) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
        """What `forward` gives, and a transformer's class token [B, C] after its last norm.

        Raises:
            RelookError: the network has none.
        """
        final, tapped, last = self._run(images, taps)
        if getattr(self.model, "cls_token", None) is None or not isinstance(last, torch.Tensor) or last.ndim != 3:
            raise RelookError(
                f"kind = class_token (describe.globals, describe.locals): {self.architecture} has no class token"
            )
        return final, tapped, last[:, 0]

    def _run(self, images: torch.Tensor, taps: Sequence[Tap]) -> tuple[torch.Tensor, list[torch.Tensor], Any]:
        """The final map, the tapped ones, and the output as timm gives it."""
        indices = sorted({self.stages - 1, *(tap.stage % self.stages for tap in taps)})
        last, maps = cast(Any, self.model).forward_intermediates(images, indices=indices, norm=self._norm)
        tapped = [maps[indices.index(tap.stage % self.stages)] for tap in taps]
        return self._final(last, maps), tapped, last

    def has_pre_relu(self, tap: Tap | None) -> bool:
        """Whether it can show this stage's map before its last ReLU."""
        return False

    @torch.inference_mode()
    def find_input_size(self) -> None:
        """Set `fixed_size`, and `patch`, by running the network on blank pictures of several sizes.

        Raises:
            RelookError: the network runs on none of them, or its output is no map.
        """
        step = self.multiple * math.ceil(32 / self.multiple)  # patches of 14 pixels fail at 64
        height, width = self.native_size
        small, large = (2 * step, 3 * step), (height + step, width + 2 * step)
        # Tables of positions may end at the size of training, unless the model says that it resizes them.
        check_large = self.may_be_fixed and not getattr(self.model, "dynamic_img_size", False)
        reason = ""
        for norm in (True, False):  # Hiera gives maps without its last norm only
            self._norm = norm
            for size in (small, large, self.native_size):
                reason = self._failure(size)
                if reason or (size == small and check_large and self._failure(large)):
                    continue
                self.probed_size = size
                self.fixed_size = size if size == self.native_size else None
                if self.fixed_size is None and self.may_be_fixed and self._failure((size[0] + 1, size[1] + 1)):
                    self.patch = self.multiple
                return
        raise RelookError(f"{self.architecture} gives no feature maps that relook can use ({reason})")

    def _failure(self, size: tuple[int, int]) -> str:
        """Why the network gives no map of a picture of (height, width) pixels; "" where it does."""
        parameter = next(self.parameters())
        try:
            final, _ = self(torch.zeros(1, 3, *size, device=parameter.device))
        except Exception as error:  # timm's models raise whatever their parts raise
            return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        return "" if isinstance(final, torch.Tensor) and final.ndim == 4 else "its output is no map"

    def _final(self, last: Any, stages: list[Any]) -> torch.Tensor:
        if not isinstance(last, torch.Tensor):  # CrossViT: one output per branch
            last = stages[-1]
        final: torch.Tensor = last if isinstance(last, torch.Tensor) else last[-1]
        if final.ndim != 4:  # a transformer's tokens: its last block's map holds the same values in their places
            final = stages[-1]
        elif final.shape[1] != self.channels and final.shape[-1] == self.channels:
            final = final.permute(0, 3, 1, 2)
        return final


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
        RelookError: the weights are not available, or are of another architecture (the message lists the keys), or the
            model gives no maps.
    """
    architecture = architecture_of(name)
    elsewhere = architecture.startswith("hf-hub:") and not architecture.startswith(_HUB_PREFIXES)
    if not timm.is_model(architecture) and not elsewhere:
        short = name[name.rfind(":") + 1 :].removeprefix("timm/")
        raise unknown_name("describer", short, [*ALIASES, *timm.list_models(), *timm.list_models(pretrained=True)])
    if weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            options = {} if classifier else {"num_classes": 0}
            return _probed(Backbone(_create(architecture, **options), architecture, RANDOM))
    if checkpoint is not None:
        file = _read(checkpoint)
        learned_p = file.state.pop("pool.p", None)
        model = _create(architecture, num_classes=0)
        _load(model, file)
        digest = hash_weights(model.state_dict())
        return _probed(Backbone(model, architecture, digest, None if learned_p is None else float(learned_p)))
    if architecture == packaged_weights.TIMM_NAME:
        model = _create(architecture)
        model.load_state_dict(packaged_weights.load_weights(), strict=True)
    else:
        model = _from_hub(architecture)
    return _probed(Backbone(model, architecture, hash_weights(model.state_dict())))


def architecture_of(name: str) -> str:
    """timm's name of a describer: its own, one of `ALIASES`, `timm/NAME`, `hf-hub:timm/NAME` or `hf-hub:OWNER/NAME`."""
    for prefix in _HUB_PREFIXES:
        if name.startswith(prefix) and timm.is_model(name.removeprefix(prefix)):
            return name.removeprefix(prefix)
    return ALIASES.get(name, name)


def _probed(backbone: Backbone) -> Backbone:
    backbone.find_input_size()
    return backbone


def _create(architecture: str, **options: Any) -> nn.Module:
    """A model without weights. One that is only on the hub has its configuration there."""
    try:
        return _build(architecture, **options)
    except Exception as error:  # the hub's client raises its own and its transport's types
        raise RelookError(f"timm {timm.__version__} cannot build {architecture!r} ({_first_line(error)})") from None


def _from_hub(architecture: str) -> nn.Module:
    try:
        return _build(architecture, pretrained=True, num_classes=0)
    except Exception as error:  # as above
        raise RelookError(
            f"the weights of {architecture!r} are neither in the local cache nor could they be fetched "
            f"({_first_line(error)}); "
            "give --set describe.checkpoint=FILE, or --set describe.weights=random to run without them"
        ) from None


def _build(architecture: str, **options: Any) -> nn.Module:
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)
    try:
        try:  # transformers accept any input size only with this option
            return timm.create_model(architecture, dynamic_img_size=True, **options)
        except TypeError as error:
            if not ("unexpected keyword" in str(error) and "dynamic_img_size" in str(error)):
                raise
            return timm.create_model(architecture, **options)
    finally:
        hub.setLevel(level)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _read(path: Path) -> Checkpoint:
    """A file of weights in timm's names."""
    file = read_checkpoint(path)
    return Checkpoint(path, packaged_weights.rename(file.state)) if packaged_weights.is_original(file.state) else file


def _load(model: nn.Module, file: Checkpoint) -> None:
    """Load every key; the classifier's may be there, because the model is built without one."""
    file = _in_timms_names(model, file)
    classifier = cast(Any, model).pretrained_cfg.get("classifier", ())
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    prefixes = tuple(f"{head}." for head in heads)
    body = {key: value for key, value in file.state.items() if not key.startswith(prefixes)}
    Checkpoint(file.path, body).load_into(model)


def _in_timms_names(model: nn.Module, file: Checkpoint) -> Checkpoint:
    """A file of DINOv2's authors, which timm translates: the class token has its position added, for example."""
    if not isinstance(model, VisionTransformer) or not _DINOV2 & file.state.keys():
        return file
    # timm recognises these files by the mask token, which describes nothing and may be left out of them.
    translated = checkpoint_filter_fn({"mask_token": torch.empty(0), **file.state}, model)
    return Checkpoint(file.path, translated, file.header)
