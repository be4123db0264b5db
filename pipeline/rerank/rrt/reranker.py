"""The Reranking Transformer as a reranker: descriptors become tokens, pairs become probabilities.

A reranker; its network is in `network.py`, its training in `pipeline.train.rerankers.rrt`.
Tan, Yuan, Ordonez, ICCV 2021: the query is the first side of each pair, a candidate the second.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.errors import RelookError
from pipeline.rerank.checkpoints import building, read_checkpoint, without_checkpoint
from pipeline.rerank.image_rows import Batch, Ragged
from pipeline.rerank.pair_reranker import PairReranker, first_locals, refuse_without_locals
from pipeline.rerank.rrt.network import RRTNetwork, RRTShape, ScaleRule, Tokens, scale_index, shape_of
from pipeline.rerank.transformer import inference
from pipeline.types import Description, ModelCard


class RRTReranker(PairReranker[RRTNetwork]):
    """Compares global and local descriptors of two images; see `PairReranker` for the arguments."""

    name = "rrt"
    needs = frozenset({"globals", "locals"})

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None,
        device: str = "cpu",
        batch_size: int = 128,
        heads: int = 4,
        locals: int | None = None,
        normalize: bool | None = None,
        scale_rule: ScaleRule | None = None,
        precision: str = "float32",
    ) -> RRTReranker:
        """Read relook's own checkpoint or an official one.

        Args:
            checkpoint: the file.
            device: where it runs.
            batch_size: pairs per forward pass, at most.
            heads: of an official checkpoint, whose tensors do not tell; relook's own says it.
            locals: how many local descriptors an image gives; None: as the checkpoint says, 500 for an official one.
            normalize: see `RRTShape`; None: as the checkpoint says, and official ones do.
            scale_rule: see `RRTShape`; None: as the checkpoint says, "official" for an official one.
            precision: see `PairReranker`.

        Raises:
            RelookError: no file, or a file of another network; the message lists the keys that differ.
        """
        if checkpoint is None:
            raise without_checkpoint("rrt")
        path = Path(checkpoint)
        read = read_checkpoint(path, "rrt")
        given: dict[str, Any] = {"locals": locals, "normalize": normalize, "scale_rule": scale_rule}
        with building(path, cls.name):
            shape = RRTShape(**read.shape) if read.shape else shape_of(read.state, heads)
            shape = dataclasses.replace(shape, **{key: value for key, value in given.items() if value is not None})
            network = RRTNetwork(shape)
        read.load_into(network, path)
        return cls(network, read.card, read.weight, read.temperature, batch_size, device, precision)

    def check(self, card: ModelCard) -> None:
        """See `Reranker.check`: dimensions have to fit, and the descriptors must be those it was trained on."""
        shape = self.network.shape
        refuse_without_locals(card, "rrt", geometry=True)
        if (card.dimension, card.local_dimension) != (shape.d_global, shape.width_of_locals):
            raise RelookError(
                f"this rrt takes descriptors of {shape.d_global} (global) and {shape.width_of_locals} (local) values; "
                f"the index has {card.dimension} and {card.local_dimension} "
                "(describe.globals.whiten and describe.locals.dimension project to fewer)"
            )
        self.refuse_other_card(card)

    def logits(self, source: Tokens, target: Tokens) -> torch.Tensor:
        """Raw logits [B] of pairs, computed `batch_size` at a time; of both orders where the network is symmetric."""
        with inference(self._device, self._precision):
            sources, targets = self._embedded(source), self._embedded(target)
        rows = torch.arange(len(source.vector))
        return self.pairs(sources, targets, rows, rows)

    def read(self, images: Sequence[Description], gallery: bool) -> Ragged:
        """See `PairReranker.read`; both sides are read in the same way."""
        return self._embedded(tokens_of(images, self.network.shape))

    def compare(self, queries: Batch, gallery: Batch) -> torch.Tensor:
        """See `PairReranker.compare`; the mean of both orders where the network is symmetric."""
        logits = self.network.compare(queries, gallery)
        return (logits + self.network.compare(gallery, queries)) / 2 if self.network.shape.symmetric else logits

    def _embedded(self, tokens: Tokens) -> Ragged:
        lengths = (~tokens.padding).sum(dim=1)
        tokens = tokens.to(self._device)
        there = ~tokens.padding
        rows = self.network.embed_locals(tokens.locals[there], tokens.scale[there])
        return Ragged(rows, lengths, self.network.embed_globals(tokens.vector))


def tokens_of(descriptions: Sequence[Description], shape: RRTShape) -> Tokens:
    """The first `shape.locals` descriptors of B images, padded. Raises RelookError when an image was given none."""
    parts = [first_locals(item, shape.locals, "rrt", shape.width_of_locals, geometry=True) for item in descriptions]
    longest = max((len(part) for part in parts), default=0)
    return Tokens(
        torch.from_numpy(np.stack([item.vector for item in descriptions])),
        torch.from_numpy(np.stack([_padded(part.descriptors, longest) for part in parts])),
        torch.from_numpy(np.stack([_padded(scale_index(part.scale, shape.scale_rule), longest) for part in parts])),
        torch.from_numpy(np.stack([np.arange(longest) >= len(part) for part in parts])),
    )


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    padding = [(0, length - len(values)), *[(0, 0)] * (values.ndim - 1)]
    return np.pad(values, padding)
