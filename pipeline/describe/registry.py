"""Which describer a name stands for. A new one is one file in this room and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.config import parse_config
from pipeline.describe.backbones import load_backbone
from pipeline.describe.describer import BackboneDescriber, settings_of
from pipeline.errors import RelookError
from pipeline.types import FloatArray, ModelCard


def load_describer(
    name: str, checkpoint: str | Path | None = None, device: str = "cpu", **options: Any
) -> BackboneDescriber:
    """Build a describer.

    Args:
        name: "efficientnet_lite0" (weights are installed with relook) or any timm model name.
        checkpoint: a local file of weights.
        device: "cpu", "cuda" or another that torch knows.
        options: fields of `pipeline.config.DescribeConfig`, such as image={"size": 224}, globals={"p": 3}.

    Raises:
        UsageError: the name or an option is unknown.
        RelookError: the weights cannot be had or do not fit, or the device is not there.
    """
    config = parse_config({"describe": {**options, "name": name, "checkpoint": checkpoint}}, source=name).describe
    backbone = load_backbone(config.name, weights=config.weights, checkpoint=config.checkpoint)
    return BackboneDescriber(backbone, config, torch.device(device))


def describer_for_card(
    card: ModelCard,
    fitted: Mapping[str, FloatArray],
    checkpoint: str | Path | None = None,
    device: str = "cpu",
) -> BackboneDescriber:
    """Build the describer that a card describes, so that queries match a gallery.

    Raises:
        RelookError: what is built is not what is on the card, usually because the weights are other ones.
    """
    describer = load_describer(card.name, checkpoint, device, **settings_of(card))
    describer.use_fitted(fitted)
    if describer.card.fingerprint != card.fingerprint:
        differences = "; ".join(describer.card.differences(card)[:3])
        raise RelookError(f"the describer is not the one that made the index ({differences})")
    return describer
