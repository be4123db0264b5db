"""The sizes of LoCoRe's network, and how they are read off an official checkpoint.

Below the network of `locore`, and what its checkpoints keep beside the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

Positions = Literal["absolute", "segment", "no"]
Aggregation = Literal["max-start", "max-end", "max-sum", "max-prod", "mean"]

# Longformer counts positions from 2: 0 and 1 were its special tokens.
FIRST_POSITION = 2
_LONGFORMER = "language_model.longformer."


@dataclass(frozen=True)
class LoCoReShape:
    """Sizes of a network; the defaults are those of the released one.

    Attributes:
        width: of tokens.
        d_local, d_global: of the descriptors.
        global_token: whether every image has a token of its global descriptor.
        layers, heads, feedforward: of the transformer.
        windows: of the attention, one per layer: keys that a token sees beside the global tokens.
        positions: rows of the position table.
        position_rule: "absolute" counts tokens, "segment" images, "no" gives all tokens the same row.
        scales: rows of the scale table.
        project_local, project_global: whether descriptors are projected to the width of tokens, which they have to be
            where they have another.
        bottleneck: width between two linear layers that project; None: there is one.
        query_global: whether all tokens of the query are global in the attention; False: only separators are.
        locals: local descriptors of each image.
        candidates: in one pass, at most.
        aggregation: of a candidate's tokens into its score.
        padding_counts: whether the tokens of missing descriptors are aggregated too, as the official code does.
    """

    width: int = 768
    d_local: int = 768
    d_global: int = 768
    global_token: bool = True
    layers: int = 12
    heads: int = 12
    feedforward: int = 3072
    windows: tuple[int, ...] = (512,) * 12
    positions: int = 5122
    position_rule: Positions = "absolute"
    scales: int = 3
    project_local: bool = False
    project_global: bool = False
    bottleneck: int | None = None
    query_global: bool = True
    locals: int = 48
    candidates: int = 100
    aggregation: Aggregation = "max-end"
    padding_counts: bool = True

    @property
    def per_image(self) -> int:
        """Tokens of an image: its descriptors and the separator."""
        return self.locals + 1 + self.global_token

    @property
    def most_candidates(self) -> int:
        """Candidates for which the position table has rows."""
        rows = self.positions - FIRST_POSITION
        by_rule = {"absolute": rows // self.per_image, "segment": rows, "no": self.candidates + 1}
        return by_rule[self.position_rule] - 1

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a checkpoint's header."""
        return {**asdict(self), "windows": list(self.windows)}


def shape_of(state: Mapping[str, torch.Tensor], windows: int | Sequence[int] = 512, **options: Any) -> LoCoReShape:
    """The sizes of an official checkpoint, read off its tensors. Raises KeyError when it is no such checkpoint.

    Args:
        state: its tensors.
        windows: of the attention, one for all layers or one for each, which tensors do not tell.
        options: other fields of a shape that they do not tell, such as `heads`.
    """
    embeddings, layer = f"{_LONGFORMER}embeddings.", f"{_LONGFORMER}encoder.layer."
    positions, width = state[f"{embeddings}position_embeddings.weight"].shape
    layers = len({key.removeprefix(layer).split(".")[0] for key in state if key.startswith(layer)})
    firsts = {name: _first_weight(state, name) for name in ("local_to_lm", "global_to_lm")}
    d_local, d_global = (width if first is None else first.shape[1] for first in firsts.values())
    inner = state.get("local_to_lm.0.weight", state.get("global_to_lm.0.weight"))
    return LoCoReShape(
        width=width,
        d_local=d_local,
        d_global=d_global,
        layers=layers,
        feedforward=state[f"{layer}0.intermediate.dense.weight"].shape[0],
        windows=(windows,) * layers if isinstance(windows, int) else tuple(windows),
        positions=positions,
        scales=state["scale_encoder.weight"].shape[0],
        project_local=firsts["local_to_lm"] is not None,
        project_global=firsts["global_to_lm"] is not None,
        bottleneck=None if inner is None else inner.shape[0],
        **options,
    )


def _first_weight(state: Mapping[str, torch.Tensor], name: str) -> torch.Tensor | None:
    return state.get(f"{name}.weight", state.get(f"{name}.0.weight"))
