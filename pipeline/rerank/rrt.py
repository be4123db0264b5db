"""The Reranking Transformer as a reranker: gathers tokens, scores pairs in batches.

One of the second looks; its network is in `rrt_network.py`, its training in `pipeline.train.rrt`.
Tan, Yuan, Ordonez, ICCV 2021: the query is the first side of each pair, a candidate the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pipeline.errors import RelookError
from pipeline.rerank.checkpoints import RerankCheckpoint, read_checkpoint
from pipeline.rerank.rrt_network import RRTNetwork, RRTShape, Tokens, scale_index, shape_of
from pipeline.types import Candidates, Description, DescriptorSource, FloatArray, LocalDescriptors, ModelCard

# Queries whose candidates are read together; a candidate of several of them is read once.
_QUERIES = 32


class RRTReranker:
    """Scores candidates by the probability that they show the same thing, in [0, 1].

    Args:
        network: the transformer; put into evaluation mode.
        card: the model whose descriptors it was trained on; None where the checkpoint does not say.
        weight: of the global similarity in the fused score, as tuned in training; None where nobody tuned it.
        temperature: factor on the logit before it becomes a probability, as tuned in training.
        batch_size: pairs per forward pass.
        device: where it runs.
    """

    needs = frozenset({"globals", "locals"})

    def __init__(
        self,
        network: RRTNetwork,
        card: ModelCard | None = None,
        weight: float | None = None,
        temperature: float = 1.0,
        batch_size: int = 128,
        device: str = "cpu",
    ) -> None:
        self.network = network.to(device).eval()
        self.card = card
        self.weight = weight
        self.temperature = temperature
        self._batch_size = batch_size
        self._device = torch.device(device)

    @classmethod
    def load(
        cls, checkpoint: str | Path | None, device: str = "cpu", batch_size: int = 128, heads: int = 4
    ) -> RRTReranker:
        """Read relook's own checkpoint or an official one.

        Args:
            checkpoint: the file.
            device: where it runs.
            batch_size: pairs per forward pass.
            heads: of an official checkpoint, whose tensors do not tell; relook's own says it.

        Raises:
            RelookError: no file, or a file of another network; the message lists the keys that differ.
        """
        if checkpoint is None:
            raise RelookError("rrt has to be trained first: relook train-rerank, or --set rerank.rrt.checkpoint=FILE")
        path = Path(checkpoint)
        read = read_checkpoint(path, "rrt")
        try:
            shape = RRTShape(**read.shape) if read.shape else shape_of(read.state, heads)
            network = RRTNetwork(shape)
        except (KeyError, TypeError, ValueError) as error:
            raise RelookError(f"{path}: not a checkpoint of rrt ({error})") from None
        read.load_into(network, path)
        return cls(network, read.card, read.weight, read.temperature, batch_size, device)

    def to_checkpoint(self) -> RerankCheckpoint:
        """What `load` needs to make the same reranker again."""
        return RerankCheckpoint(
            "rrt",
            dict(self.network.state_dict()),
            self.network.shape.to_json(),
            self.card,
            self.weight,
            self.temperature,
        )

    def check(self, card: ModelCard) -> None:
        """See `Reranker.check`: dimensions have to fit, and the descriptors must be those it was trained on."""
        shape = self.network.shape
        if not card.local_dimension:
            raise RelookError("rrt needs local descriptors; extract with --set describe.locals.count=50")
        if (card.dimension, card.local_dimension) != (shape.d_global, shape.d_model):
            raise RelookError(
                f"this rrt takes descriptors of {shape.d_global} (global) and {shape.d_model} (local) values; "
                f"the index has {card.dimension} and {card.local_dimension}"
            )
        if self.card is not None and self.card.fingerprint != card.fingerprint:
            differences = "; ".join(self.card.differences(card)[:3])
            raise RelookError(f"this rrt was trained on another model's descriptors ({differences})")

    def score(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FloatArray]:
        """See `Reranker.score`; probabilities in [0, 1]."""
        scores: list[FloatArray] = []
        for start in range(0, len(queries), _QUERIES):
            block = slice(start, start + _QUERIES)
            scores += self._score_block(queries[block], candidates.ids[block], gallery)
        return scores

    @torch.inference_mode()
    def logits(self, source: Tokens, target: Tokens) -> torch.Tensor:
        """Raw logits [B] of pairs, computed `batch_size` at a time; of both orders where the network is symmetric."""
        size = self._batch_size
        starts = range(0, len(source.vector), size)
        parts = [self._logits(source[start : start + size], target[start : start + size]) for start in starts]
        return torch.cat(parts).float().cpu() if parts else torch.zeros(0)

    def _logits(self, source: Tokens, target: Tokens) -> torch.Tensor:
        source, target = source.to(self._device), target.to(self._device)
        logits: torch.Tensor = self.network(source, target)
        return (logits + self.network(target, source)) / 2 if self.network.shape.symmetric else logits

    def _score_block(
        self, queries: Sequence[Description], ids: Sequence[Sequence[str]], gallery: DescriptorSource
    ) -> list[FloatArray]:
        names = sorted({name for row in ids for name in row})
        if not names:
            return [np.zeros(0, np.float32) for _ in ids]
        place = {name: row for row, name in enumerate(names)}
        shape = self.network.shape
        described = [
            Description(v, part) for v, part in zip(gallery.globals(names), gallery.locals(names), strict=True)
        ]
        targets, sources = tokens_of(described, shape), tokens_of(queries, shape)
        left = torch.tensor([query for query, row in enumerate(ids) for _ in row], dtype=torch.int64)
        right = torch.tensor([place[name] for row in ids for name in row], dtype=torch.int64)
        logits = self._pairs(sources, targets, left, right)
        probabilities = (self.temperature * logits).sigmoid().numpy()
        return np.split(probabilities, np.cumsum([len(row) for row in ids])[:-1])

    def _pairs(self, sources: Tokens, targets: Tokens, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Logits of sources[left] against targets[right], gathered one batch at a time."""
        size = self._batch_size
        return torch.cat(
            [
                self.logits(sources[left[start : start + size]], targets[right[start : start + size]])
                for start in range(0, len(left), size)
            ]
        )


def tokens_of(descriptions: Sequence[Description], shape: RRTShape) -> Tokens:
    """The first `shape.locals` descriptors of B images, padded. Raises RelookError when an image was given none."""
    if any(item.locals is None for item in descriptions):
        raise RelookError("rrt needs local descriptors; extract with --set describe.locals.count=50")
    parts = [_first(item.locals, shape.locals) for item in descriptions if item.locals is not None]
    longest = max((len(part) for part in parts), default=0)
    return Tokens(
        torch.from_numpy(np.stack([item.vector for item in descriptions])),
        torch.from_numpy(np.stack([_padded(part.descriptors, longest) for part in parts])),
        torch.from_numpy(np.stack([_padded(scale_index(part.scale, shape.scale_rule), longest) for part in parts])),
        torch.from_numpy(np.stack([np.arange(longest) >= len(part) for part in parts])),
    )


def _first(part: LocalDescriptors, count: int | None) -> LocalDescriptors:
    return LocalDescriptors(part.descriptors[:count], part.xy[:count], part.scale[:count], part.weight[:count])


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    padding = [(0, length - len(values)), *[(0, 0)] * (values.ndim - 1)]
    return np.pad(values, padding)
