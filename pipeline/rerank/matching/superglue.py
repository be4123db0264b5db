"""The matcher `superglue`: SuperGlue (Sarlin, DeTone, Malisiewicz, Rabinovich, CVPR 2020), for keypoints of SuperPoint.

Its network is in `superglue_network.py`. Its weights are under Magic Leap's licence, for academic or non-profit
noncommercial research only: `load_matcher` makes one only for who accepts it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from pipeline.checkpoints import Checkpoint, read_checkpoint
from pipeline.errors import RelookError
from pipeline.rerank.checkpoints import building
from pipeline.rerank.matching.pair_batches import (
    Pair,
    Rows,
    match_in_batches,
    mutual_maxima,
    numpy_matches,
    refuse_other_kind,
    refuse_other_width,
)
from pipeline.rerank.matching.superglue_network import Side, SuperGlueNetwork, SuperGlueShape, transport
from pipeline.rerank.transformer import check_precision, inference
from pipeline.types import FloatArray, Keypoints, KeypointsCard, Matches


@dataclass(frozen=True)
class PairResult:
    """What the network says of one pair of m and n keypoints.

    Attributes:
        rows, columns: [k] int64, keypoints of the two images that are each other's best; `rows` ascend.
        scores: [k] in [0, 1].
        couplings: [m, n] float32.
        log_assignment: [m + 1, n + 1] float32, the last row and column for those without a match.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    scores: torch.Tensor
    couplings: torch.Tensor
    log_assignment: torch.Tensor


class SuperGlueMatcher:
    """Matches keypoints of SuperPoint by a graph network and optimal transport.

    Args:
        network: SuperGlue's.
        features: the kind of keypoints.
        threshold: matches have a score above this, in [0, 1].
        sinkhorn_iterations: of the optimal transport.
        batch_size: pairs per batch on a GPU, at most; on a CPU each core has one pair.
        device: where it runs.
        precision: of matrix products, "float32", "bfloat16", or on CUDA "float16".
    """

    name = "superglue"

    def __init__(
        self,
        network: SuperGlueNetwork,
        features: str = "superpoint",
        threshold: float = 0.2,
        sinkhorn_iterations: int = 100,
        batch_size: int = 32,
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        self.network = network.to(device).eval()
        self.features = features
        self._threshold = threshold
        self._iterations = sinkhorn_iterations
        self._batch_size = 1 if torch.device(device).type == "cpu" else batch_size
        self._device = torch.device(device)
        self._precision = check_precision(self.name, precision, device)

    @classmethod
    def load(
        cls,
        features: str,
        checkpoint: str | Path | None = None,
        device: str = "cpu",
        threshold: float = 0.2,
        sinkhorn_iterations: int = 100,
        heads: int = 4,
        batch_size: int = 32,
        precision: str = "float32",
    ) -> Self:
        """Read an official file.

        Args:
            heads: of the network, which its tensors do not tell.
            features, checkpoint, device, threshold, sinkhorn_iterations, batch_size, precision: see the class.

        Raises:
            RelookError: there is no file, or it is of another network.
        """
        if checkpoint is None:
            raise RelookError(
                "superglue needs its weights: give superglue_outdoor.pth or superglue_indoor.pth with "
                "--set rerank.matching.checkpoint=FILE"
            )
        read = read_checkpoint(Path(checkpoint))
        with building(read.path, "SuperGlue"):
            shape = shape_of(read.state, heads)
            network = SuperGlueNetwork(shape)
        Checkpoint(read.path, in_order_of_use(read.state, shape)).load_into(network)
        return cls(network, features, threshold, sinkhorn_iterations, batch_size, device, precision)

    def check(self, card: KeypointsCard) -> None:
        """See `Matcher.check`."""
        refuse_other_kind(self.name, self.features, self.network.shape.width, card)

    def match(self, pairs: Sequence[Pair]) -> list[Matches]:
        """See `Matcher.match`. Raises RelookError when descriptors are not as long as the checkpoint's."""

        def work(numbers: Sequence[int]) -> list[Matches]:
            return [self._matches(result) for result in self.results([pairs[number] for number in numbers])]

        return match_in_batches(pairs, work, self._batch_size, self._device)

    def results(self, pairs: Sequence[Pair]) -> list[PairResult]:
        """All that the network says of pairs of images with keypoints, as one batch: also below the threshold."""
        for width in {image.descriptors.shape[1] for pair in pairs for image in pair}:
            refuse_other_width(self.name, self.network.shape.width, width)
        with inference(self._device, self._precision):
            first, second = (self._side([pair[side] for pair in pairs]) for side in (0, 1))
            couplings = self.network(first, second)
        with torch.inference_mode():
            counts = first[1].lengths, second[1].lengths
            log_assignment = transport(couplings, self.network.bin_score, counts, self._iterations)
            sizes = zip(*(count.tolist() for count in counts), strict=True)
            return [
                _result(*part, *size)
                for part, size in zip(zip(couplings, log_assignment, strict=True), sizes, strict=True)
            ]

    def _side(self, images: Sequence[Keypoints]) -> Side:
        rows = Rows(torch.tensor([len(image) for image in images]), self._device)
        descriptors = np.concatenate([image.descriptors for image in images])
        places = np.concatenate([_places(image) for image in images])
        given, where = (torch.from_numpy(array).to(self._device) for array in (descriptors, places))
        return self.network.begin(given, where, rows)

    def _matches(self, result: PairResult) -> Matches:
        kept = result.scores > self._threshold
        return numpy_matches(result.rows[kept], result.columns[kept], result.scores[kept])


def shape_of(state: dict[str, torch.Tensor], heads: int = 4) -> SuperGlueShape:
    """The sizes of a network, read off its tensors. Raises KeyError or ValueError when they are no SuperGlue's."""
    width = state["final_proj.weight"].shape[0]
    numbers = sorted(int(found[1]) for key in state if (found := re.fullmatch(r"kenc\.encoder\.(\d+)\.weight", key)))
    encoder = [state[f"kenc.encoder.{number}.weight"].shape[0] for number in numbers if number % 3 == 0]
    if width % heads:
        raise ValueError(f"{heads} heads do not divide {width} values")
    layers = len({key.split(".")[2] for key in state if key.startswith("gnn.layers.")})
    return SuperGlueShape(width, tuple(encoder[:-1]), layers, heads)


def in_order_of_use(state: dict[str, torch.Tensor], shape: SuperGlueShape) -> dict[str, torch.Tensor]:
    """The same tensors: convolutions of size 1 as matrices, and the channels of attention head by head."""
    order = torch.arange(shape.width).view(-1, shape.heads).T.flatten()
    ordered = {}
    for key, value in state.items():
        matrix = value.squeeze(2) if value.ndim == 3 and value.shape[2] == 1 else value
        if ".attn.proj." in key and len(matrix) == shape.width:
            matrix = matrix[order]
        elif key.endswith(".attn.merge.weight") and matrix.shape[1:] == (shape.width,):
            matrix = matrix[:, order]
        ordered[key] = matrix
    return ordered


def _result(couplings: torch.Tensor, log_assignment: torch.Tensor, m: int, n: int) -> PairResult:
    inner = log_assignment[:m, :n]
    rows, columns, values = mutual_maxima(inner)
    with_bins = torch.cat([log_assignment[:m], log_assignment[-1:]])
    with_bins = torch.cat([with_bins[:, :n], with_bins[:, -1:]], dim=1)
    return PairResult(rows, columns, values.exp(), couplings[:m, :n], with_bins)


def _places(image: Keypoints) -> FloatArray:
    """[n, 3] float32: x and y from the centre, in units of 0.7 times the longer side; and the score."""
    x0, y0, x1, y1 = image.region
    size = np.array([x1 - x0, y1 - y0], np.float32)
    xy = image.xy - np.array([x0, y0], np.float32) - size / 2
    xy /= max(size.max(), np.float32(1e-6)) * np.float32(0.7)
    return np.concatenate([xy, image.score[:, None]], axis=1, dtype=np.float32)
