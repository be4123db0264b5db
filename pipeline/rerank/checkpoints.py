"""Checkpoints of rerankers: what a trained reranker needs besides its weights.

Read by every trainable reranker, written by `train-rerank` and `convert`. relook's header names the reranker, the
network's sizes, the model card of the descriptors that it was trained on, and the fusion tuned on validation; an
official file has none of these; its sizes follow from its tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.checkpoints import Checkpoint, split_key, write_checkpoint
from pipeline.checkpoints import read_checkpoint as read_file
from pipeline.errors import RelookError
from pipeline.types import ModelCard


@dataclass(frozen=True)
class RerankCheckpoint:
    """A stored reranker.

    Attributes:
        name: its registry name.
        state: tensors by key.
        shape: sizes of its network; None for an official file, whose tensors give them.
        card: the model whose descriptors it was trained on; None for an official file.
        weight: of the global similarity in the fused score; None where it was not tuned.
        temperature: factor on its logits before they are fused.
    """

    name: str
    state: dict[str, torch.Tensor]
    shape: Mapping[str, Any] | None = None
    card: ModelCard | None = None
    weight: float | None = None
    temperature: float = 1.0

    def load_into(self, network: nn.Module, path: Path) -> None:
        """Load every tensor. Raises RelookError listing the keys that are missing, unexpected or of another shape."""
        Checkpoint(path, self.state).load_into(network)


def without_checkpoint(name: str) -> RelookError:
    """The error of a reranker that is loaded without its checkpoint."""
    return RelookError(
        f"{name} needs a checkpoint: train one with relook train-rerank --reranker {name}, or give "
        f"--set rerank.{name}.checkpoint=FILE"
    )


def read_checkpoint(path: Path, name: str) -> RerankCheckpoint:
    """Read a checkpoint of the reranker `name`.

    Raises:
        RelookError: there is no such file, it is damaged, or it belongs to another reranker.
    """
    if not split_key(path)[0].is_file():
        raise RelookError(
            f"{path}: no such checkpoint; train one with: relook train-rerank --reranker {name}, or give "
            f"--set rerank.{name}.checkpoint=FILE"
        )
    file = read_file(path)
    header = file.header
    if header is not None and header.get("kind") == "describer":  # CVNet's and the product network hold both
        header = header.get("reranker")
    if header is None:
        return RerankCheckpoint(name, file.state)
    try:
        card = ModelCard.from_json(header["card"]) if header["card"] else None
        checkpoint = RerankCheckpoint(
            header["name"], file.state, header["shape"], card, header["weight"], header["temperature"]
        )
    except (KeyError, TypeError) as error:
        raise RelookError(f"{path}: a damaged checkpoint, or not one of a reranker (no {error})") from None
    if checkpoint.name != name:
        raise RelookError(f"{path}: a checkpoint of {checkpoint.name}, not of {name}")
    return checkpoint


@contextmanager
def building(path: Path, name: str) -> Iterator[None]:
    """Around building a network: a missing tensor or header key becomes one line that names the file."""
    try:
        yield
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise RelookError(f"{path}: not a checkpoint of {name} ({error})") from None


def recognise(state: Mapping[str, torch.Tensor]) -> str | None:
    """The reranker that an official state dict belongs to, by its keys; None when it is of no known one."""
    if "mtc_token" in state:
        return "ames"
    if "language_model.longformer.sep_embedding" in state:
        return "locore"
    if "dust_bin" in state and "dust_bin_mlp.0.weight" in state:
        return "elvis"
    if "seg_encoder.weight" in state:  # the product matcher has no globals to project
        return "rrt" if "remap.weight" in state else "rrt_sop"
    return "cvnet" if any(key.startswith("cv_learner.") for key in state) else None


def save_checkpoint(path: Path, checkpoint: RerankCheckpoint) -> None:
    """Write relook's own format; the file appears whole or not at all. Raises RelookError when it cannot."""
    write_checkpoint(path, checkpoint.state, header_of(checkpoint))


def header_of(checkpoint: RerankCheckpoint) -> dict[str, Any]:
    """What is kept beside the tensors: in a file of its own, or in that of the describer that it was trained with."""
    return {
        "name": checkpoint.name,
        "shape": dict(checkpoint.shape or {}),
        "card": checkpoint.card.to_json() if checkpoint.card else None,
        "weight": checkpoint.weight,
        "temperature": checkpoint.temperature,
    }
