"""LoCoRe as a reranker: one pass over the query and a window of its candidates scores all of them.

A reranker of lists; its network is in `network.py`. Xiao et al., CVPR 2025: the logit of "the same thing" at a
candidate's tokens, times a temperature, becomes a probability, which is fused with the global similarity. More
candidates than one pass takes are scored by sliding windows (`pipeline.rerank.windows`).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from pipeline.checkpoints import Checkpoint
from pipeline.errors import RelookError, UsageError
from pipeline.rerank.checkpoints import RerankCheckpoint, building, read_checkpoint, without_checkpoint
from pipeline.rerank.locore.explanation import attended_in_list, token_effects, window_around
from pipeline.rerank.locore.network import ImageLists, LoCoReNetwork, aggregate
from pipeline.rerank.locore.shape import Aggregation, LoCoReShape, Positions, shape_of
from pipeline.rerank.pair_reranker import first_locals, refuse_other_model, refuse_without_locals
from pipeline.rerank.parallel_batches import map_in_parallel
from pipeline.rerank.transformer import check_precision, inference
from pipeline.rerank.windows import Direction, Windows
from pipeline.types import Attended, Candidates, Description, DescriptorSource, FloatArray, LocalDescriptors, ModelCard

# Of the authors' evaluation, for their files, which hold neither.
_WEIGHT, _TEMPERATURE = 0.5, 0.1
# A buffer that older releases of transformers stored beside the weights.
_NO_WEIGHT = "embeddings.position_ids"


class LoCoReReranker:
    """Scores all candidates of a query together, by probabilities in [0, 1] that depend on the other candidates.

    Args:
        network: what compares; put into evaluation mode.
        card: the model whose descriptors it was trained on; None where the checkpoint does not say.
        weight: of the global similarity in the fused score; None: not tuned.
        temperature: factor on the logit before it becomes a probability.
        windows: how more candidates than one pass takes are scored; None: windows of as many as it was trained with,
            from the end to the start, each half over the one before.
        device: where it runs.
        precision: of matrix products, "float32", "bfloat16", or on CUDA "float16".

    Raises:
        UsageError: the precision is unknown, or not for this device.
        RelookError: the network has no positions for windows of that size.
    """

    scores_lists = True  # a score depends on which other candidates there are

    def __init__(
        self,
        network: LoCoReNetwork,
        card: ModelCard | None = None,
        weight: float | None = None,
        temperature: float = 1.0,
        windows: Windows | None = None,
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        self.network = network.to(device).eval()
        self.card = card
        self.weight = weight
        self.temperature = temperature
        shape = network.shape
        self.windows = windows or Windows(shape.candidates, max(1, shape.candidates // 2))
        if self.windows.size > shape.most_candidates:
            raise RelookError(
                f"rerank.locore.window = {self.windows.size}; this locore has positions for {shape.most_candidates} "
                f"candidates of {shape.locals} local descriptors; choose a smaller window or rerank.locore.locals"
            )
        self._device = torch.device(device)
        self._precision = check_precision("locore", precision, device)
        self._scales: Sequence[float] = (1.0,) if card is None else card.locals.scales

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None,
        device: str = "cpu",
        locals: int | None = None,
        window: int | None = None,
        stride: int | None = None,
        direction: Direction = "end-to-start",
        aggregation: Aggregation | None = None,
        temperature: float | None = None,
        precision: str = "float32",
        heads: int = 12,
        attention_window: int | Sequence[int] = 512,
        positions: Positions = "absolute",
        query_global: bool = True,
        global_token: bool = True,
    ) -> LoCoReReranker:
        """Read relook's own checkpoint or an official one.

        Args:
            checkpoint: the file.
            device: where it runs.
            locals: how many local descriptors an image gives; None: as the checkpoint says, 48 for an official one.
            window: candidates in one pass; None: as the checkpoint says, 100 for an official one.
            stride: places from one window to the next; None: half of a window.
            direction: see `Windows`.
            aggregation: see `aggregate`; None: as the checkpoint says, "max-end" for an official one.
            temperature: factor on the logit; None: as the checkpoint says, 0.1 for an official one.
            precision: see the class.
            heads, attention_window, positions, query_global, global_token: of an official checkpoint, whose tensors do
                not tell; see `LoCoReShape`. relook's own says them.

        Raises:
            UsageError: the stride is more than the window.
            RelookError: no file, or a file of another network; the message lists the keys that differ.
        """
        if checkpoint is None:
            raise without_checkpoint("locore")
        path = Path(checkpoint)
        read = read_checkpoint(path, "locore")
        state = {key: value for key, value in read.state.items() if not key.endswith(_NO_WEIGHT)}
        given: dict[str, Any] = {"locals": locals, "candidates": window, "aggregation": aggregation}
        untold: dict[str, Any] = {"heads": heads, "position_rule": positions, "query_global": query_global}
        with building(path, "locore"):
            if read.shape:
                shape = LoCoReShape(**{**read.shape, "windows": tuple(read.shape["windows"])})
            else:
                shape = shape_of(state, attention_window, global_token=global_token, **untold)
            shape = dataclasses.replace(shape, **{key: value for key, value in given.items() if value is not None})
            network = LoCoReNetwork(shape)
        Checkpoint(path, state).load_into(network)
        factor, weight = (read.temperature, read.weight) if read.shape else (_TEMPERATURE, _WEIGHT)
        windows = _windows(shape.candidates, stride, direction)
        factor = factor if temperature is None else temperature
        return cls(network, read.card, weight, factor, windows, device, precision)

    @property
    def needs(self) -> frozenset[str]:
        """See `Reranker.needs`."""
        return frozenset({"globals", "locals"} if self.network.shape.global_token else {"locals"})

    def to_checkpoint(self) -> RerankCheckpoint:
        """What `load` of the same reranker needs to make it again."""
        shape = self.network.shape.to_json()
        state = dict(self.network.state_dict())
        return RerankCheckpoint("locore", state, shape, self.card, self.weight, self.temperature)

    def check(self, card: ModelCard) -> None:
        """See `Reranker.check`: dimensions have to fit, and every scale of the descriptors needs a row of its own."""
        shape, scales = self.network.shape, card.locals.scales
        refuse_without_locals(card, "locore", geometry=len(scales) > 1)
        have = (card.dimension if shape.global_token else shape.d_global, card.local_dimension)
        if have != (shape.d_global, shape.d_local):
            raise RelookError(
                f"this locore takes descriptors of {shape.d_global} (global) and {shape.d_local} (local) values; the "
                f"index has {card.dimension} and {card.local_dimension} (describe.globals.whiten and "
                "describe.locals.dimension project to fewer)"
            )
        if len(scales) > shape.scales:
            raise RelookError(
                f"this locore tells {shape.scales} scales apart; the index has local descriptors of {len(scales)} "
                "(describe.locals.scales)"
            )
        if self.card is not None:
            refuse_other_model("locore", self.card, card)

    def bind(self, card: ModelCard) -> Self:
        """See `Reranker.bind`; the scale of a descriptor is its number among the card's `locals.scales`."""
        self.check(card)
        bound = copy.copy(self)
        bound._scales = card.locals.scales
        return bound

    def score(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FloatArray]:
        """See `Reranker.score`; probabilities in [0, 1], of each list in one pass.

        Raises:
            RelookError: an image was given no locals, or a list is longer than the network has positions for.
        """
        if len(queries) != len(candidates.ids):
            raise RelookError(f"{len(queries)} queries for {len(candidates.ids)} lists of candidates")
        longest = max(map(len, candidates.ids), default=0)
        if longest > self.network.shape.most_candidates:
            raise RelookError(
                f"{longest} candidates in one pass; this locore has positions for {self.network.shape.most_candidates}"
            )
        numbers = [number for number, ids in enumerate(candidates.ids) if ids]
        lists = (self._read(queries[number], candidates.ids[number], gallery) for number in numbers)
        scores: list[FloatArray] = [np.zeros(0, np.float32)] * len(queries)
        # A single list has all cores; several are divided among them.
        several = len(numbers) > 1
        found = map_in_parallel(self._score_one, lists, self._device) if several else map(self._score_one, lists)
        for number, values in zip(numbers, found, strict=True):
            scores[number] = values
        return scores

    def explain(
        self, query: Description, candidates: Candidates, ids: Sequence[str], gallery: DescriptorSource
    ) -> list[Attended]:
        """See `ExplainingReranker.explain`: the effects of local descriptors and of the other candidates.

        A list that is longer than a window is cut to a window around the image: with sliding windows a score may come
        from another one.

        Raises:
            RelookError: an image was given no locals, or the index keeps no places of local descriptors.
        """
        names = candidates.ids[0]
        found = []
        for place in map(names.index, ids):
            window = window_around(place, len(names), self.windows.size)
            shown = [query, *self._described(names[window], gallery)]
            own = place - window.start
            effects = token_effects(self.network, self.lists_of(shown).to(self._device), own)
            found.append(attended_in_list(shown, names[window], own, effects, self.network.shape))
        return found

    def token_logits(self, lists: ImageLists) -> torch.Tensor:
        """Raw logits [B, N, 2] float32 on the CPU of all tokens; see `LoCoReNetwork`."""
        with inference(self._device, self._precision):
            logits: torch.Tensor = self.network(lists.to(self._device))
            return logits.float().cpu()

    def local_logits(self, lists: ImageLists, softmax: bool = False) -> torch.Tensor:
        """[B, G] float32 on the CPU: each candidate's logit of class 1, aggregated over its tokens.

        Args:
            lists: B queries with G candidates each.
            softmax: aggregate probabilities in place of logits.
        """
        network, candidates = self.network, lists.locals.shape[1] - 1
        with inference(self._device, self._precision):
            lists = lists.to(self._device)
            tokens = network.tokens_read(candidates).to(self._device)
            logits = network(lists, tokens.flatten()).float()
            values = logits.softmax(dim=2)[..., 1] if softmax else logits[..., 1]
            values = values.view(-1, *tokens.shape)
            return aggregate(values, network.shape.aggregation, network.counted(lists)).cpu()

    def lists_of(self, images: Sequence[Description]) -> ImageLists:
        """A query and its candidates, described, as one list; an image may have fewer descriptors than are read.

        Raises:
            RelookError: an image was described without local descriptors, or without what the network needs of them.
        """
        shape, several = self.network.shape, len(self._scales) > 1
        parts = [first_locals(image, shape.locals, "locore", shape.d_local, geometry=several) for image in images]
        local = np.zeros((len(parts), shape.locals, shape.d_local), np.float32)
        scale, padding = np.zeros(local.shape[:2], np.int64), np.ones(local.shape[:2], np.bool_)
        for row, part in enumerate(parts):
            local[row, : len(part)] = part.descriptors
            scale[row, : len(part)] = self._scale_rows(part) if several else 0
            padding[row, : len(part)] = False
        whole = np.stack([image.vector for image in images]) if shape.global_token else None
        arrays = (None if array is None else torch.from_numpy(array)[None] for array in (local, scale, padding, whole))
        return ImageLists(*arrays)  # type: ignore[arg-type]

    def _read(self, query: Description, ids: Sequence[str], gallery: DescriptorSource) -> ImageLists:
        return self.lists_of([query, *self._described(ids, gallery)])

    def _described(self, ids: Sequence[str], gallery: DescriptorSource) -> list[Description]:
        width = self.network.shape.d_global if self.network.shape.global_token else 0
        vectors = gallery.globals(ids) if width else np.zeros((len(ids), 0), np.float32)
        return [Description(vector, part) for vector, part in zip(vectors, gallery.locals(ids), strict=True)]

    def _score_one(self, lists: ImageLists) -> FloatArray:
        logits = self.local_logits(lists)[0]
        found: FloatArray = (self.temperature * logits).sigmoid().numpy()
        return found

    def _scale_rows(self, part: LocalDescriptors) -> np.ndarray:
        """[n] numbers of the scales that descriptors were extracted at, which they say as 1 over the factor."""
        factors = 1.0 / np.asarray(self._scales, dtype=np.float64)
        return np.asarray(np.abs(part.scale[:, None] - factors).argmin(axis=1))


def _windows(size: int, stride: int | None, direction: Direction) -> Windows:
    if stride is not None and stride > size:
        raise UsageError(f"rerank.locore.stride = {stride} is more than a window of {size} candidates")
    return Windows(size, max(1, size // 2) if stride is None else stride, direction)
