"""LightGlue's network (Lindenberger, Sarlin, Pollefeys, ICCV 2023), for batches of pairs of any lengths.

Used by `lightglue.py`; its parts are in `lightglue_layers.py`, the files of weights in `lightglue_weights.py`. Each
pair stops after a layer of its own and loses keypoints of its own: pairs that have stopped leave the batch, and pruned
keypoints are taken out of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import nn

from pipeline.rerank.matching.lightglue_assignment import Assignment
from pipeline.rerank.matching.lightglue_layers import Confidence, Layer, Positions, Side
from pipeline.rerank.matching.pair_batches import Rows, mutual_entries, mutual_maxima


@dataclass(frozen=True)
class LightGlueShape:
    """Sizes of a network; the defaults are the paper's.

    Attributes:
        input_dim: values of the descriptors.
        width: d of the tokens.
        layers, heads: of the transformer.
        oriented: whether the position of a keypoint includes its scale and orientation.
    """

    input_dim: int = 256
    width: int = 256
    layers: int = 9
    heads: int = 4
    oriented: bool = False


@dataclass(frozen=True)
class PairResult:
    """What the network says of one pair of m and n keypoints.

    Attributes:
        rows, columns: [k] int64, keypoints of the two images that are each other's best; `rows` ascend.
        scores: [k] in [0, 1]; all of them where the log assignment was requested, else those above the threshold.
        stop: layers that were computed; where no keypoint was left, the layer that found none, counted from 1.
        survived: [m], [n] int64, 1 and the layers after which each keypoint was not pruned.
        log_assignment: [m' + 1, n' + 1] float32 of the keypoints that were left, the last row and column for those
            without a match; None where it was not requested, or none was left.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    scores: torch.Tensor
    stop: int
    survived: tuple[torch.Tensor, torch.Tensor]
    log_assignment: torch.Tensor | None = None


@dataclass(frozen=True)
class _Pairs:
    """Pairs that have not stopped: their numbers in the batch, and both images of each."""

    numbers: list[int]
    sides: tuple[Side, Side]


class LightGlueNetwork(nn.Module):
    """Matches two sets of keypoints. For inference: it decides by values, which no gradient passes."""

    def __init__(self, shape: LightGlueShape) -> None:
        super().__init__()
        self.shape = shape
        if shape.input_dim != shape.width:
            self.input_proj: nn.Module = nn.Linear(shape.input_dim, shape.width)
        else:
            self.input_proj = nn.Identity()
        self.posenc = Positions(4 if shape.oriented else 2, shape.width // shape.heads // 2)
        self.transformers = nn.ModuleList(Layer(shape.width, shape.heads) for _ in range(shape.layers))
        self.log_assignment = nn.ModuleList(Assignment(shape.width) for _ in range(shape.layers))
        self.token_confidence = nn.ModuleList(Confidence(shape.width) for _ in range(shape.layers - 1))

    def begin(
        self, descriptors: torch.Tensor, positions: torch.Tensor, rows: Rows
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What depends on one image alone: tokens [total, d] after the first self attention, and the code of positions.

        Args:
            descriptors: [total, input_dim].
            positions: [total, 2 or 4], normalised x and y, and where `oriented` scale and orientation.
            rows: where the images' rows lie.
        """
        code: torch.Tensor = self.posenc(positions)
        tokens: torch.Tensor = self.layer(0).self_attn(self.input_proj(descriptors), code, rows)
        return tokens, code

    def forward(
        self,
        first: Side,
        second: Side,
        depth_confidence: float,
        width_confidence: float,
        threshold: float | None = None,
    ) -> list[PairResult]:
        """The results of the B pairs of a batch, in order.

        Args:
            first, second: what `begin` gives, of the first and of the second images.
            depth_confidence: share of keypoints that have to be confident for a pair to stop; not above 0: none stops.
            width_confidence: keypoints of a matchability of at most 1 minus this are pruned; not above 0: none.
            threshold: matches have a score above it; None: all mutual ones, and their log assignment.
        """
        run = _Run(self, first, second, depth_confidence, width_confidence, threshold)
        pairs = _Pairs(list(range(len(first.rows.lengths))), (first, second))
        for layer in range(self.shape.layers):
            if not pairs.numbers:
                break
            block, (one, other) = self.layer(layer), pairs.sides
            if layer:
                one, other = block.alone(one), block.alone(other)
            pairs = run.after(layer, replace(pairs, sides=block.cross_attn(one, other)))
        return [run.results[number] for number in range(len(run.results))]

    def layer(self, number: int) -> Layer:
        """One of the transformer's layers."""
        return cast(Layer, self.transformers[number])

    def assignment(self, layer: int) -> Assignment:
        """The assignment from the tokens after a layer."""
        return cast(Assignment, self.log_assignment[layer])

    def confidence(self, layer: int) -> Confidence:
        """The confidence from the tokens after a layer that is not the last."""
        return cast(Confidence, self.token_confidence[layer])

    def confidence_thresholds(self) -> list[float]:
        """By layer, the confidence from which a keypoint counts as confident."""
        count = self.shape.layers
        return [min(max(0.8 + 0.1 * math.exp(-4 * layer / count), 0), 1) for layer in range(count)]


class _Run:
    """Which pairs of a batch stop and which keypoints are pruned, layer by layer; and the results."""

    def __init__(
        self,
        network: LightGlueNetwork,
        first: Side,
        second: Side,
        depth: float,
        width: float,
        threshold: float | None,
    ) -> None:
        self.results: dict[int, PairResult] = {}
        self._network = network
        self._depth, self._width, self._threshold = depth, width, threshold
        self._thresholds = network.confidence_thresholds()
        self._last = network.shape.layers - 1
        self._points = first.rows.lengths + second.rows.lengths
        self._starts = [side.rows.lengths.cumsum(0) - side.rows.lengths for side in (first, second)]
        self._lengths = [side.rows.lengths for side in (first, second)]
        survived = 1 if width > 0 else network.shape.layers
        self._survived = [torch.full_like(side.origin, survived) for side in (first, second)]

    def after(self, layer: int, pairs: _Pairs) -> _Pairs:
        """The pairs that go on after a layer, with the keypoints that are left."""
        if layer == self._last:
            self._finish(layer, pairs, [True] * len(pairs.numbers))
            return _Pairs([], pairs.sides)
        owners = [side.rows.owners() for side in pairs.sides]
        confidences: list[torch.Tensor] | None = None
        stops = torch.zeros(len(pairs.numbers), dtype=torch.bool)
        if self._depth > 0:
            confidences = [self._network.confidence(layer)(side.tokens) for side in pairs.sides]
            stops = self._stops(layer, pairs, owners, confidences)
            self._finish(layer, pairs, stops.tolist())
        going = ~stops
        if self._width <= 0 or not going.any():
            return _left(pairs, owners, going)
        kept = [
            self._kept(layer, side, None if confidences is None else confidences[row])
            for row, side in enumerate(pairs.sides)
        ]
        return self._prune(layer, pairs, owners, kept, going)

    def _stops(
        self, layer: int, pairs: _Pairs, owners: list[torch.Tensor], confidences: list[torch.Tensor]
    ) -> torch.Tensor:
        """[B] bool on the CPU. Pruned keypoints count as confident, since the number is that before pruning."""
        count = len(pairs.numbers)
        unsure = [
            torch.bincount(owner[confidence < self._thresholds[layer]], minlength=count)
            for owner, confidence in zip(owners, confidences, strict=True)
        ]
        points = self._points[pairs.numbers]
        return 1.0 - (unsure[0] + unsure[1]).cpu().float() / points > self._depth

    def _kept(self, layer: int, side: Side, confidence: torch.Tensor | None) -> torch.Tensor:
        """[total] bool. Keypoints that may still change are never pruned."""
        kept = self._network.assignment(layer).matchable(side.tokens).sigmoid() > 1 - self._width
        return kept if confidence is None else kept | (confidence <= self._thresholds[layer])

    def _prune(
        self, layer: int, pairs: _Pairs, owners: list[torch.Tensor], kept: list[torch.Tensor], going: torch.Tensor
    ) -> _Pairs:
        lengths = []
        for row, (side, owner) in enumerate(zip(pairs.sides, owners, strict=True)):
            kept[row] &= going.to(owner.device)[owner]
            self._survived[row][side.origin[kept[row]]] += 1
            lengths.append(torch.bincount(owner[kept[row]], minlength=len(going)).cpu())
        empty = going & ((lengths[0] == 0) | (lengths[1] == 0))
        for place in empty.nonzero().flatten().tolist():
            none = self._survived[0].new_zeros(0)
            number = pairs.numbers[place]
            self.results[number] = PairResult(none, none, none.float(), layer + 2, self._survived_of(number))
        going = going & ~empty
        return _left(pairs, owners, going, kept, lengths)

    def _finish(self, layer: int, pairs: _Pairs, stops: list[bool]) -> None:
        """The results of the pairs that stop after a layer."""
        head = self._network.assignment(layer)
        tokens, origins = (
            [side.rows.split(getattr(side, what)) for side in pairs.sides] for what in ("tokens", "origin")
        )
        for place, number in enumerate(pairs.numbers):
            if not stops[place]:
                continue
            first, second = tokens[0][place], tokens[1][place]
            rows, columns, values, log_assignment = self._assign(head, first, second)
            self.results[number] = PairResult(
                origins[0][place][rows] - self._starts[0][number],
                origins[1][place][columns] - self._starts[1][number],
                values,
                layer + 1,
                self._survived_of(number),
                log_assignment,
            )

    def _assign(
        self, head: Assignment, first: torch.Tensor, second: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Rows, columns and scores [k] of the matches of a pair, and the log assignment where it was requested."""
        if self._threshold is None:
            whole = head(first, second)
            rows, columns, values = mutual_maxima(whole)
            return rows, columns, values.exp(), head.with_bins(whole, first, second)
        found = head.above(first, second, self._threshold)
        # What is left out lies below: these are the largest of whole rows and columns.
        best = mutual_entries(*found, (len(first), len(second)))
        best = best[found.scores[best].exp() > self._threshold]
        return found.rows[best], found.columns[best], found.scores[best].exp(), None

    def _survived_of(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        first, second = (
            counts[start[number] : start[number] + length[number]]
            for counts, start, length in zip(self._survived, self._starts, self._lengths, strict=True)
        )
        return first, second


def _left(
    pairs: _Pairs,
    owners: list[torch.Tensor],
    going: torch.Tensor,
    kept: list[torch.Tensor] | None = None,
    lengths: list[torch.Tensor] | None = None,
) -> _Pairs:
    """The pairs that go on [B] bool, with the rows that are kept [total] bool, and how many of them each image has."""
    if not going.any():
        return _Pairs([], pairs.sides)
    if kept is None and going.all():
        return pairs
    sides = []
    for row, (side, owner) in enumerate(zip(pairs.sides, owners, strict=True)):
        chosen = going.to(owner.device)[owner]
        counts = side.rows.lengths
        if kept is not None and lengths is not None:
            chosen, counts = chosen & kept[row], lengths[row]
        sides.append(side.only(chosen, counts[going]))
    numbers = [number for number, goes in zip(pairs.numbers, going.tolist(), strict=True) if goes]
    return _Pairs(numbers, (sides[0], sides[1]))
