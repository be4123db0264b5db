"""The matcher `lightglue`: LightGlue (Lindenberger, Sarlin, Pollefeys, ICCV 2023), and XFeat's LighterGlue.

Its network is in `lightglue_network.py`. On a GPU pairs of like sizes are compared in batches; on a CPU each core has
one pair, whose result then does not depend on the others at all: padding, even the order of keypoints, changes scores
of XFeat's weights by 1e-4 in float32. What depends on one image alone, up to the first cross attention, is computed
once for an image that is in several pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch

from pipeline.errors import UsageError
from pipeline.rerank.matching.lightglue_layers import Side
from pipeline.rerank.matching.lightglue_network import LightGlueNetwork, PairResult
from pipeline.rerank.matching.lightglue_weights import load_network
from pipeline.rerank.matching.pair_batches import (
    Pair,
    Rows,
    match_in_batches,
    numpy_matches,
    refuse_other_kind,
    refuse_other_width,
)
from pipeline.rerank.matching.settings import DEPTH_CONFIDENCE, WIDTH_CONFIDENCE
from pipeline.rerank.parallel_batches import map_in_parallel
from pipeline.rerank.transformer import check_precision, inference
from pipeline.types import FloatArray, Keypoints, KeypointsCard, Matches

Normalisation = Literal["image", "points"]
Begun = tuple[torch.Tensor, torch.Tensor]

# Pairs for which the images that they share are computed and held at once.
_BLOCK = 512


class LightGlueMatcher:
    """Matches keypoints by a transformer over those of both images.

    Unlike the official code, which prunes on a GPU only above 1,536 keypoints, it prunes alike on every device.

    Args:
        network: LightGlue's.
        features: the kind of keypoints.
        threshold: matches have a score above this, in [0, 1].
        depth_confidence: a pair stops early when more than this share of its keypoints is confident; -1: never.
        width_confidence: keypoints that have a match with a probability of at most 1 minus this are pruned; -1: none.
        positions: how positions are normalised: by the size of the "image", or as the official code does without it, by
            the extent of the "points".
        batch_size: pairs per batch on a GPU, at most.
        device: where it runs.
        precision: of matrix products, "float32", "bfloat16", or on CUDA "float16".

    Raises:
        UsageError: a value is unknown or out of its range.
    """

    name = "lightglue"

    def __init__(
        self,
        network: LightGlueNetwork,
        features: str,
        threshold: float = 0.1,
        depth_confidence: float = DEPTH_CONFIDENCE,
        width_confidence: float = WIDTH_CONFIDENCE,
        positions: Normalisation = "image",
        batch_size: int = 64,
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        for key, value in (("depth_confidence", depth_confidence), ("width_confidence", width_confidence)):
            if value != -1 and not 0 < value <= 1:
                raise UsageError(f"matcher lightglue: {key} = {value} must be above 0 and at most 1, or -1")
        if positions not in ("image", "points"):
            raise UsageError(f"matcher lightglue: positions = {positions!r}; known: image, points")
        self.network = network.to(device).eval()
        self.features = features
        self._threshold = threshold
        self._confidences = depth_confidence, width_confidence
        self._positions = positions
        self._batch_size = 1 if torch.device(device).type == "cpu" else batch_size
        self._device = torch.device(device)
        self._precision = check_precision(self.name, precision, device)

    @classmethod
    def load(
        cls,
        features: str,
        checkpoint: str | Path | None = None,
        device: str = "cpu",
        threshold: float = 0.1,
        depth_confidence: float = DEPTH_CONFIDENCE,
        width_confidence: float = WIDTH_CONFIDENCE,
        positions: Normalisation = "image",
        batch_size: int = 64,
        precision: str = "float32",
    ) -> Self:
        """Read a released file, old or new names; None: the installed one, which only xfeat has.

        Raises:
            RelookError: there is no file, or it is of another network or of other keypoints.
        """
        network = load_network(features, None if checkpoint is None else Path(checkpoint))
        options = threshold, depth_confidence, width_confidence, positions, batch_size, device, precision
        return cls(network, features, *options)

    def check(self, card: KeypointsCard) -> None:
        """See `Matcher.check`."""
        refuse_other_kind(self.name, self.features, self.network.shape.input_dim, card)

    def match(self, pairs: Sequence[Pair]) -> list[Matches]:
        """See `Matcher.match`. Raises RelookError when descriptors are not as long as the checkpoint's."""
        self._refuse_other_widths(pairs)
        found: list[Matches] = []
        for block in _blocks(pairs):
            begun = self._begin_shared(block)

            def work(
                numbers: Sequence[int], block: Sequence[Pair] = block, begun: dict[int, Begun] = begun
            ) -> list[Matches]:
                results = self._results([block[number] for number in numbers], begun, self._threshold)
                return [numpy_matches(result.rows, result.columns, result.scores) for result in results]

            found += match_in_batches(block, work, self._batch_size, self._device)
        return found

    def results(self, pairs: Sequence[Pair]) -> list[PairResult]:
        """All that the network says of pairs of images with keypoints, as one batch: also below the threshold."""
        self._refuse_other_widths(pairs)
        return self._results(pairs, {}, None)

    def _results(self, pairs: Sequence[Pair], begun: dict[int, Begun], threshold: float | None) -> list[PairResult]:
        with inference(self._device, self._precision):
            first, second = (self._side([pair[side] for pair in pairs], begun) for side in (0, 1))
            results: list[PairResult] = self.network(first, second, *self._confidences, threshold)
            return results

    def _begin_shared(self, pairs: Sequence[Pair]) -> dict[int, Begun]:
        """What depends on one image alone, by the identity of those that are in several pairs."""
        images = {id(image): image for pair in pairs if all(map(len, pair)) for image in pair}
        counts = Counter(id(image) for pair in pairs if all(map(len, pair)) for image in pair)
        shared = [key for key, count in counts.items() if count > 1]

        def work(key: int) -> Begun:
            with inference(self._device, self._precision):
                return self._begin([images[key]])

        return dict(zip(shared, map_in_parallel(work, shared, self._device), strict=True))

    def _side(self, images: Sequence[Keypoints], begun: dict[int, Begun]) -> Side:
        rows = Rows(torch.tensor([len(image) for image in images]), self._device)
        others = [image for image in images if id(image) not in begun]
        if len(others) == len(images):
            tokens, code = self._begin(images)
        else:
            own = iter(self._begin_each(others))
            each = [begun[id(image)] if id(image) in begun else next(own) for image in images]
            tokens, code = (torch.cat(parts) for parts in zip(*each, strict=True))
        return Side(tokens, code, torch.arange(len(tokens), device=self._device), rows)

    def _begin_each(self, images: Sequence[Keypoints]) -> list[Begun]:
        if not images:
            return []
        tokens, code = self._begin(images)
        lengths = [len(image) for image in images]
        return list(zip(torch.split(tokens, lengths), torch.split(code, lengths), strict=True))

    def _begin(self, images: Sequence[Keypoints]) -> Begun:
        rows = Rows(torch.tensor([len(image) for image in images]), self._device)
        descriptors = np.concatenate([image.descriptors for image in images])
        positions = np.concatenate([self._positions_of(image) for image in images])
        given, places = (torch.from_numpy(array).to(self._device) for array in (descriptors, positions))
        return self.network.begin(given, places, rows)

    def _positions_of(self, image: Keypoints) -> FloatArray:
        """[n, 2 or 4] float32: x and y from the centre, 1 at the ends of the longer side; scale and orientation."""
        if self._positions == "image":
            x0, y0, x1, y1 = image.region
            xy, size = image.xy - np.array([x0, y0], np.float32), np.array([x1 - x0, y1 - y0], np.float32)
        else:  # as the official code: from half of the extent, not from its middle
            xy, size = image.xy, 1 + image.xy.max(axis=0) - image.xy.min(axis=0)
        xy = (xy - size / 2) / (max(size.max(), np.float32(1e-6)) / 2)
        columns = [xy, image.scale[:, None], image.orientation[:, None]]
        return np.concatenate(columns if self.network.shape.oriented else columns[:1], axis=1, dtype=np.float32)

    def _refuse_other_widths(self, pairs: Sequence[Pair]) -> None:
        for width in {image.descriptors.shape[1] for pair in pairs for image in pair if len(image)}:
            refuse_other_width(self.name, self.network.shape.input_dim, width)


def _blocks(pairs: Sequence[Pair]) -> Iterator[Sequence[Pair]]:
    return (pairs[start : start + _BLOCK] for start in range(0, len(pairs), _BLOCK))
