"""SuperPoint (DeTone et al., CVPRW 2018) in plain torch, for the official file of weights, which is not free.

Its licence allows non-commercial use alone. Grey pictures, 256 values per keypoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self, get_args

import cv2
import numpy as np
import torch
from kornia.geometry.transform import resize
from torch import nn
from torch.nn import functional

from pipeline.describe.keypoints.base import Found, Pixels
from pipeline.describe.keypoints.network import NetworkExtractor, array, read_released
from pipeline.errors import unknown_name

Grey = Literal["opencv", "weighted"]
Resizing = Literal["picture", "tensor"]

# Pixels of a cell, along each side.
CELL = 8


class SuperPointNetwork(nn.Module):
    """The network under the official names; `forward` takes [B, 1, h, w] in [0, 1].

    Its maps have a cell for every 8 x 8 pixels: 65 logits of the detector (one for each pixel, row by row, and one for
    none of them) and 256 values of the descriptor.
    """

    def __init__(self) -> None:
        super().__init__()
        channels = (1, 64, 64, 128, 128)
        for stage in range(4):
            self.add_module(f"conv{stage + 1}a", nn.Conv2d(channels[stage], channels[stage + 1], 3, padding=1))
            self.add_module(f"conv{stage + 1}b", nn.Conv2d(channels[stage + 1], channels[stage + 1], 3, padding=1))
        self.convPa = nn.Conv2d(128, 256, 3, padding=1)
        self.convPb = nn.Conv2d(256, CELL * CELL + 1, 1)
        self.convDa = nn.Conv2d(128, 256, 3, padding=1)
        self.convDb = nn.Conv2d(256, 256, 1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [B, 65, h / 8, w / 8], and descriptors [B, 256, h / 8, w / 8] of unit length."""
        maps = images
        for stage in range(1, 5):
            maps = functional.relu(self.get_submodule(f"conv{stage}a")(maps))
            maps = functional.relu(self.get_submodule(f"conv{stage}b")(maps))
            if stage < 4:
                maps = functional.max_pool2d(maps, 2)
        logits = self.convPb(functional.relu(self.convPa(maps)))
        descriptors = self.convDb(functional.relu(self.convDa(maps)))
        return logits, functional.normalize(descriptors, dim=1)


class SuperPointExtractor(NetworkExtractor):
    """SuperPoint's keypoints."""

    kind = "superpoint"
    dimension = 256
    smallest = 2 * CELL

    def __init__(
        self,
        network: SuperPointNetwork,
        device: str,
        size: int,
        count: int,
        threshold: float,
        radius: int,
        border: int,
        grey: Grey,
        resizing: Resizing,
    ) -> None:
        settings = {
            "threshold": threshold, "radius": radius, "border": border, "grey": grey, "resizing": resizing
        }  # fmt: skip
        super().__init__(network, device, size, count, settings)
        self._threshold, self._radius, self._border = threshold, radius, border
        self._grey, self._resizing = grey, resizing

    @classmethod
    def load(
        cls,
        checkpoint: Path | None,
        device: str,
        *,
        size: int = 1024,
        count: int = 1024,
        threshold: float = 0.005,
        radius: int = 4,
        border: int = 4,
        grey: Grey = "opencv",
        resizing: Resizing = "picture",
    ) -> Self:
        """Make one.

        Args:
            checkpoint: the official `superpoint_v1.pth`.
            device: where the network runs.
            size, count: see `Extractor`.
            threshold: of the probability of a keypoint, in [0, 1]. SuperGlue's repository: 0.005, LightGlue's: 0.0005.
            radius: pixels around a keypoint in which there is no weaker one.
            border: pixels along the sides without keypoints.
            grey: how colours become grey: OpenCV's rounded values, or the weighted sum (LightGlue's).
            resizing: what is resized: the picture, or the grey tensor by kornia, antialiased (LightGlue's).

        Raises:
            UsageError: a value is unknown.
            RelookError: the weights are missing or of another network.
        """
        for name, value, known in (("grey", grey, get_args(Grey)), ("resizing", resizing, get_args(Resizing))):
            if value not in known:
                raise unknown_name(f"{name} of keypoints superpoint", value, known)
        network = SuperPointNetwork()
        read_released(cls.kind, checkpoint, "superpoint_v1.pth").load_into(network)
        return cls(network, device, size, count, threshold, radius, border, grey, resizing)

    @torch.inference_mode()
    def detect(self, pictures: Pixels) -> list[Found]:
        """See `Extractor.detect`."""
        images = self._read(pictures)
        step = np.array([images.shape[3] / pictures.shape[2], images.shape[2] / pictures.shape[1]], np.float32)
        logits, descriptors = self._network(images)
        scores = local_maxima(probabilities(logits), self._radius)
        found = []
        for one, cells in zip(scores, descriptors, strict=True):
            xy, score = self._strongest(one)
            values = sampled(cells, xy)
            # In float32, as LightGlue's repository does.
            points = array(xy) if (step == 1).all() else (array(xy) + np.float32(0.5)) / step - np.float32(0.5)
            found.append(Found(points, array(values), array(score)))
        return found

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        return super()._resized(width, height) if self._resizing == "picture" else (width, height)

    def _read(self, pictures: Pixels) -> torch.Tensor:
        """What the network reads: [B, 1, h, w] in [0, 1]."""
        if self._grey == "opencv":
            pictures = np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None] for picture in pictures])
        images = self.tensor(pictures)
        if self._resizing == "tensor":
            images = resize(images, self._size, side="long", antialias=True, interpolation="bilinear")
        if self._grey == "opencv":
            return images
        weights = torch.tensor([0.299, 0.587, 0.114], device=self._device).view(1, 3, 1, 1)
        return (images * weights).sum(dim=1, keepdim=True)

    def _strongest(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[n, 2] float32 x and y, and [n] scores, of a map [h, w] whose other pixels are 0."""
        height, width = scores.shape
        kept = scores > self._threshold
        inside = torch.zeros_like(kept)
        inside[self._border : height - self._border, self._border : width - self._border] = True
        rows, columns = torch.nonzero(kept & inside, as_tuple=True)
        values = scores[rows, columns]
        if len(values) > self._count:
            values, order = values.topk(self._count)
            rows, columns = rows[order], columns[order]
        return torch.stack([columns, rows], dim=1).float(), values


def probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Of a keypoint at every pixel, [B, h, w], from logits [B, 65, h / 8, w / 8]."""
    cells = logits.softmax(dim=1)[:, :-1]
    return functional.pixel_shuffle(cells, CELL)[:, 0]


def local_maxima(scores: torch.Tensor, radius: int) -> torch.Tensor:
    """Scores [B, h, w] where they are the largest within `radius`, 0 elsewhere.

    Twice, what lies beside a maximum is left out, and the maxima of the rest are added.
    """

    def largest(values: torch.Tensor) -> torch.Tensor:
        return functional.max_pool2d(values, 2 * radius + 1, stride=1, padding=radius)

    kept = scores == largest(scores)
    for _ in range(2):
        beside = largest(kept.float()) > 0
        rest = scores.masked_fill(beside, 0)
        kept = kept | ((rest == largest(rest)) & ~beside)
    return scores.masked_fill(~kept, 0)


def sampled(cells: torch.Tensor, xy: torch.Tensor) -> torch.Tensor:
    """Descriptors [n, d] of unit length at pixels [n, 2], from those of the cells [d, h, w]."""
    height, width = cells.shape[-2:]
    ends = torch.tensor([CELL * width, CELL * height], device=xy.device) - (CELL / 2 + 0.5)
    places = (xy - (CELL / 2 - 0.5)) / ends * 2 - 1
    values = functional.grid_sample(cells[None], places[None, None], mode="bilinear", align_corners=True)
    return functional.normalize(values[0, :, 0], dim=0).T
