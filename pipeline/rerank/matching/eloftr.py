"""The matcher `eloftr`: Efficient LoFTR (Wang, He, Peng, Tan, Zhou, CVPR 2024, Apache-2.0), transformers' network.

Dense: it reads the pixels of both images (`dense.py`). The package `transformers` is optional; only its network is
used. Its own matching refines a cell by the window of another match, so the matches are made here, as in the paper.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import torch
from torch.nn import functional

from pipeline.errors import RelookError
from pipeline.rerank.matching.dense import DenseMatcher, Points, released_weights
from pipeline.rerank.matching.pair_batches import mutual_maxima

# Pixels of a cell along each side; windows of the second picture have a pixel more on every side.
_CELL = 8


class EfficientLoFTRMatcher(DenseMatcher):
    """Matches cells of 8 x 8 pixels by attention over gathered cells, and refines both points within them."""

    name = "eloftr"

    @classmethod
    def load(
        cls,
        features: str,
        checkpoint: str | Path | None = None,
        device: str = "cpu",
        threshold: float = 0.2,
        precision: str = "float32",
    ) -> Self:
        """Read the published `model.safetensors`.

        Raises:
            RelookError: there is no file, it is of another network, or transformers is not installed.
        """
        file = released_weights(cls.name, checkpoint, "the model.safetensors of zju-community/efficientloftr")
        if find_spec("transformers") is None:
            raise RelookError("the matcher eloftr needs the package transformers: pip install 'relook[eloftr]'")
        library: Any = import_module("transformers")
        network = library.EfficientLoFTRForKeypointMatching(library.EfficientLoFTRConfig())
        file.load_into(network)
        return cls(network, threshold, device, precision)

    def begin(self, picture: torch.Tensor) -> torch.Tensor:
        """See `DenseMatcher.begin`: the picture, since both go through the network together."""
        return picture

    def compare(self, begun: torch.Tensor, picture: torch.Tensor) -> Points:
        """See `DenseMatcher.compare`. The network reads pictures of one size: both are padded to the larger sides."""
        height, width = (max(begun.shape[side], picture.shape[side]) for side in (2, 3))
        both = torch.cat([_padded(one, height, width) for one in (begun, picture)])
        cells, *finer = self.network.efficientloftr(both[None]).feature_maps
        rows, columns, scores = self._matched_cells(cells[0].float())
        windows = self.network.refinement_layer(cells / cells.shape[2] ** 0.5, finer)
        first, second = (part[0, index].float() for part, index in zip(windows, (rows, columns), strict=True))
        config = self.network.config
        shifts = refined(first, second, config.fine_matching_slice_dim, config.fine_matching_regress_temperature)
        # As in LoFTR's frame, the centre of the first pixel is (0.5, 0.5).
        places = [_corners(index, width) + shift - 0.5 for index, shift in zip((rows, columns), shifts, strict=True)]
        return Points(places[0], places[1], scores)

    def _matched_cells(self, cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Cells [k] of both pictures that are each other's best, away from the borders, and the scores [k].

        Args:
            cells: [2, c, h, w].
        """
        config = self.network.config
        channels, height, width = cells.shape[1:]
        first, second = cells.flatten(2).transpose(1, 2) / channels**0.5
        similarity = first @ second.T / config.coarse_matching_temperature
        scores = similarity.softmax(dim=0) * similarity.softmax(dim=1)
        rows, columns, values = mutual_maxima(scores)
        kept = values > self._threshold
        for index in (rows, columns):
            for place, side in ((index % width, width), (index // width, height)):
                border = config.coarse_matching_border_removal
                kept &= (place >= border) & (place < side - border)
        return rows[kept], columns[kept], values[kept]


def refined(
    first: torch.Tensor, second: torch.Tensor, regressed: int, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """How far from the corners of their cells k matches lie, [k, 2] in pixels each (the paper's section 3.3).

    The best pair of pixels of both windows is that of the largest dual softmax; then the second one's point moves to
    the mean of the 3 x 3 pixels there, weighted by a softmax.

    Args:
        first: [k, W * W, c], the windows of the first picture.
        second: [k, (W + 2) * (W + 2), c], those of the second one.
        regressed: how many of the c values serve the second step.
        temperature: of its softmax.
    """
    count, size, channels = first.shape
    side = round(size**0.5)
    one, two = first[..., :-regressed] / channels**0.5, second[..., :-regressed] / channels**0.5
    similarity = one @ two.transpose(1, 2)
    scores = (similarity.softmax(dim=1) * similarity.softmax(dim=2)).view(count, size, side + 2, side + 2)
    best = scores[..., 1:-1, 1:-1].reshape(count, size * size).argmax(dim=1)
    pixel, other = best // size, best % size
    numbers = torch.arange(count, device=first.device)
    steps = torch.arange(-1, 2, device=first.device)
    # The official code takes them around (row, column) of the wider window, one pixel up and left; its weights were
    # trained that way, and an index of -1 is the last one there as here.
    rows, columns = (other // side)[:, None, None] + steps[:, None], (other % side)[:, None, None] + steps
    values = torch.einsum("kc,krc->kr", first[numbers, pixel, -regressed:], second[..., -regressed:]) / regressed**0.5
    near = values.view(count, side + 2, side + 2)[numbers[:, None, None], rows, columns]
    weights = (near.flatten(1) / temperature).softmax(dim=1).view(-1, 3, 3)
    mean = torch.stack([(weights.sum(1) * steps).sum(1), (weights.sum(2) * steps).sum(1)], dim=1)
    return _inside(pixel, side), _inside(other, side) + mean


def _inside(index: torch.Tensor, side: int) -> torch.Tensor:
    """x and y [k, 2] of pixels of a window, from its middle."""
    return torch.stack([index % side, index // side], dim=1) - side // 2 + 0.5


def _corners(cells: torch.Tensor, width: int) -> torch.Tensor:
    """x and y [k, 2] of cells of a picture of this width."""
    columns = width // _CELL
    return torch.stack([cells % columns, cells // columns], dim=1) * _CELL


def _padded(picture: torch.Tensor, height: int, width: int) -> torch.Tensor:
    missing = (0, width - picture.shape[3], 0, height - picture.shape[2])
    return functional.pad(picture, missing, mode="replicate")
