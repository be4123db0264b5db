"""Describers at rest that relook trained: backbone and heads in one file, in relook's own format.

Written by training, read by `network.py` like the published ones; keys are those of `DescriberNetwork`. Published
models are written as `relook convert` writes them, so that it can give them back in the official format.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.checkpoints import write_checkpoint
from pipeline.describe.network import DescriberNetwork
from pipeline.describe.presets import NETWORKS

# Weights that a network carries and no description needs: ImageNet's classifier of a backbone of timm's.
_LEFT_OUT = ("backbone.model.classifier.", "backbone.model.fc.", "backbone.model.head.fc.")


def save_describer(
    path: Path,
    name: str,
    network: DescriberNetwork,
    training: Mapping[str, Any],
    more: Mapping[str, torch.Tensor] | None = None,
    reranker: Mapping[str, Any] | None = None,
) -> None:
    """Write a describer; the file appears whole or not at all.

    Args:
        path: its file.
        name: the registry name, which it has to be loaded by.
        network: its weights as they stand.
        training: plain values that say how it was made.
        more: tensors that are kept beside it, such as the matcher that was trained with it.
        reranker: what that reranker has to remember beside its tensors.

    Raises:
        RelookError: it cannot be written.
    """
    layout = _layout(name) if network.head.adapted is None else None  # official files have no place for that layer
    header: dict[str, Any] = {"kind": "describer", "name": name, "layout": layout, "training": dict(training)}
    if reranker is not None:
        header["reranker"] = dict(reranker)
    write_checkpoint(path, {**kept_state(network), **_constants(name, network), **(more or {})}, header)


def kept_state(network: DescriberNetwork) -> dict[str, torch.Tensor]:
    """The tensors of a network that its file holds."""
    return {key: value for key, value in network.state_dict().items() if not key.startswith(_LEFT_OUT)}


def _constants(name: str, network: DescriberNetwork) -> dict[str, torch.Tensor]:
    """What the product network's file holds beside its weights: how it normalises pictures."""
    if _layout(name) != "sop":
        return {}
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (network.backbone.mean, network.backbone.std))
    return {"image.mean": mean, "image.std": std}


def _layout(name: str) -> str | None:
    """The official layout that it can be converted to; None where there is none."""
    return NETWORKS[name].family if name in NETWORKS else None
