"""Checkpoints of rerankers: relook's own (safetensors with a header) and the official ones (a pickled state dict).

Read by every trainable reranker, written by `train-rerank`. The header names the reranker, the network's sizes, the
model card of the descriptors that it was trained on, and the fusion weight tuned on validation. Nothing is unpickled
but tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from pipeline.errors import RelookError
from pipeline.files import write_bytes
from pipeline.types import ModelCard

# Wrappers in which official files hold their state dict.
_WRAPPERS = ("state", "state_dict", "model_state", "model")


@dataclass(frozen=True)
class RerankCheckpoint:
    """A reranker at rest.

    Attributes:
        name: its registry name.
        state: tensors by key.
        shape: sizes of its network; None for an official file, whose tensors tell.
        card: the model whose descriptors it was trained on; None for an official file.
        weight: of the global similarity in the fused score; None where nobody tuned it.
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
        expected = network.state_dict()
        problems = {
            "missing": sorted(expected.keys() - self.state.keys()),
            "unexpected": sorted(self.state.keys() - expected.keys()),
            "of another shape": sorted(
                key for key in expected.keys() & self.state.keys() if expected[key].shape != self.state[key].shape
            ),
        }
        found = [f"{len(keys)} {what} ({', '.join(keys[:5])})" for what, keys in problems.items() if keys]
        if found:
            raise RelookError(f"{path}: a checkpoint of another architecture; keys: {'; '.join(found)}")
        network.load_state_dict(self.state, strict=True)


def read_checkpoint(path: Path, name: str) -> RerankCheckpoint:
    """Read a checkpoint of the reranker `name`.

    Raises:
        RelookError: there is no such file, it is damaged, or it belongs to another reranker.
    """
    if not path.is_file():
        raise RelookError(f"{path}: no such checkpoint; make one with: relook train-rerank")
    with path.open("rb") as stream:
        start = stream.read(9)
    # safetensors: eight bytes of header length, then JSON.
    if start[8:9] == b"{":
        return _read_own(path, name)
    return RerankCheckpoint(name, _read_official(path))


def write_checkpoint(path: Path, checkpoint: RerankCheckpoint) -> None:
    """Write relook's own format; the file appears whole or not at all. Raises RelookError when it cannot."""
    header = {
        "name": checkpoint.name,
        "shape": dict(checkpoint.shape or {}),
        "card": checkpoint.card.to_json() if checkpoint.card else None,
        "weight": checkpoint.weight,
        "temperature": checkpoint.temperature,
    }
    tensors = {key: value.detach().cpu().contiguous() for key, value in checkpoint.state.items()}
    data = save(tensors, metadata={"relook": json.dumps(header)})
    try:
        write_bytes(path, data)
    except OSError as error:
        raise RelookError(f"{path}: cannot be written ({error.strerror})") from None


def _read_own(path: Path, name: str) -> RerankCheckpoint:
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("relook", "null"))
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        if header is None:
            raise RelookError(f"{path}: a safetensors file, but not one that relook wrote")
        card = ModelCard.from_json(header["card"]) if header["card"] else None
        checkpoint = RerankCheckpoint(
            header["name"], state, header["shape"], card, header["weight"], header["temperature"]
        )
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise RelookError(f"{path}: a damaged checkpoint ({error})") from None
    if checkpoint.name != name:
        raise RelookError(f"{path}: a checkpoint of {checkpoint.name}, not of {name}")
    return checkpoint


def _read_official(path: Path) -> dict[str, torch.Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a file that is no checkpoint
        raise RelookError(f"{path}: cannot be read as a checkpoint ({str(error).splitlines()[0]})") from None
    for wrapper in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
            break
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise RelookError(f"{path}: holds no state dict")
    return {str(key): value for key, value in loaded.items()}
