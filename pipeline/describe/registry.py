"""Which describer a name stands for: timm's models, the published ones of `presets.py`, and those of `DESCRIBERS`.

The way into this room for verbs and for Python. A new published model is an entry in `presets.py`, and in
`official_checkpoints.py` where its files use keys of their own; any other describer is a line in `DESCRIBERS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from pipeline.config import DescribeConfig, parse_config
from pipeline.describe.card import settings_of
from pipeline.describe.describer import NetworkDescriber
from pipeline.describe.network import build_network
from pipeline.describe.presets import PRESETS
from pipeline.describe.runtimes.registry import INSTALLED
from pipeline.errors import RelookError, UsageError
from pipeline.types import FittableDescriber, FloatArray, ModelCard


class DescriberClass(Protocol):
    """A class of describers; the settings on the card of one are the options that make it again."""

    def load(self, checkpoint: str | Path | None, device: str, **options: Any) -> FittableDescriber:
        """Make a describer with these options of the section `describe`."""


# Describers that are not networks of this room, by name.
DESCRIBERS: dict[str, DescriberClass] = {}


def load_describer(
    name: str, checkpoint: str | Path | None = None, device: str = "cpu", **options: Any
) -> FittableDescriber:
    """Build a describer.

    Args:
        name: "efficientnet_lite0" (weights are installed with relook), a published model (`presets.PRESETS`, such as
            "cvnet_r50"), any timm model name, or a key of `DESCRIBERS`.
        checkpoint: a local file of weights: relook's own, the official one, or one with timm's names.
        device: "cpu", "cuda" or another that torch knows.
        options: fields of `pipeline.config.DescribeConfig`, such as image={"size": 224}, globals={"p": 3}; what is not
            given is as published for published models. `runtime` is torch unless it is given.

    Returns:
        A `NetworkDescriber`, or what the class in `DESCRIBERS` makes.

    Raises:
        UsageError: the name or an option is unknown.
        RelookError: the weights cannot be had or do not fit, or the device is not there.
    """
    if "keypoints" in options:
        raise UsageError("keypoints are no option of a describer; use with_keypoints(describer, load_keypoints(...))")
    if name in DESCRIBERS:
        runtime = options.pop("runtime", "torch")
        if runtime not in ("auto", "torch"):
            raise RelookError(f"describe.runtime = {runtime}: {name} has no network to compile; leave it out")
        return DESCRIBERS[name].load(checkpoint, device, **options)
    # Compared to the last digits, descriptors are those of torch unless another runtime is requested.
    config = resolved(name, checkpoint, {"runtime": "torch", **options})
    describer = NetworkDescriber(build_network(config), config, torch.device(device))
    runtime = _runtime_of(config, device)
    if runtime != "torch":
        describer.use_runtime(runtime)
    return describer


def resolved(name: str, checkpoint: str | Path | None, options: Mapping[str, Any]) -> DescribeConfig:
    """The whole configuration of a describer: `options` over its published set-up over the defaults.

    Raises:
        UsageError: an option is unknown.
    """
    given = {**with_preset(name, options), "name": name, "checkpoint": checkpoint}
    return parse_config({"describe": given}, source=name).describe


def with_preset(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` (fields of `pipeline.config.DescribeConfig`) over the published set-up of `name`, if it has one."""
    return _merged(PRESETS.get(name, {}), options)


def describer_for_card(
    card: ModelCard,
    fitted: Mapping[str, FloatArray],
    checkpoint: str | Path | None = None,
    device: str = "cpu",
    runtime: str = "torch",
) -> FittableDescriber:
    """Build the describer that a card describes, so that queries match a gallery.

    `runtime` is `describe.runtime`.

    Raises:
        RelookError: what is built is not what is on the card, usually because the weights are other ones.
    """
    options = card.settings if card.name in DESCRIBERS else settings_of(card)
    describer = load_describer(card.name, checkpoint, device, runtime=runtime, **options)
    describer.use_fitted(fitted)
    if describer.card.fingerprint != card.fingerprint:
        differences = "; ".join(describer.card.differences(card)[:3])
        raise RelookError(f"the describer is not the one that made the index ({differences})")
    return describer


def _runtime_of(config: DescribeConfig, device: str) -> str:
    """What runs the network: for "auto" the installed runtime where it may, else torch."""
    if config.runtime != "auto":
        return config.runtime
    published = config.name in PRESETS  # compared with the papers' figures
    compiled = torch.device(device).type == "cpu" and config.precision == "float32" and not published
    return INSTALLED if compiled else "torch"


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
