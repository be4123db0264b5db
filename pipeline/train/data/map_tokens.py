"""Stored maps of many images as tokens for training: their cells, projected once, and the codes of their positions.

Read by the training of `rrt_sop`. Maps may be of different sizes. Cells and position codes are separate, so that a step
can rotate the descriptors without the positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from pipeline.rerank.image_rows import Batch, Ragged
from pipeline.rerank.rrt_sop.network import RRTSOPNetwork
from pipeline.rerank.rrt_sop.reranker import maps_of
from pipeline.types import Description, DescriptorSource, FloatArray

# Images whose maps are read at once.
_CHUNK = 256


@dataclass(frozen=True)
class MapTokens:
    """N maps.

    Attributes:
        cells: [total, d_model] projected and scaled to the length of tokens; `whole` is the network's.
        codes: [S, longest, d_model] position codes of the S different sizes, padded with zeros.
        size: [N] int64, the row of `codes` for each map.
    """

    cells: Ragged
    codes: torch.Tensor
    size: torch.Tensor

    @classmethod
    def of(cls, network: RRTSOPNetwork, cells: Sequence[torch.Tensor], sizes: Sequence[tuple[int, int]]) -> MapTokens:
        """From the projected cells [h * w, d_model] of each image and the (h, w) of its map."""
        different = sorted(set(sizes))
        codes = pad_sequence([network.places(*size).cpu() for size in different], batch_first=True)
        lengths = torch.tensor([len(part) for part in cells])
        with torch.no_grad():
            rows = network.scaled(torch.cat(list(cells)))
            whole = torch.cat([network.whole(part[None]) for part in cells])
        places = {size: number for number, size in enumerate(different)}
        return cls(Ragged(rows, lengths, whole), codes, torch.tensor([places[size] for size in sizes]))

    def batch(self, images: torch.Tensor, rotation: torch.Tensor | None, device: torch.device) -> Batch:
        """The `images` [B] int64 for the network, on a device; `rotation` [d, d] rotates descriptors, not positions."""
        cells = self.cells.batch(images)
        rows = cells.rows if rotation is None else cells.rows @ rotation
        rows = rows + self.codes[self.size[images], : rows.shape[1]]
        padding = None if cells.padding is None else cells.padding.to(device)
        return Batch(rows.to(device), padding, cells.whole.to(device))


def read_maps(source: DescriptorSource, ids: Sequence[str]) -> Iterator[FloatArray]:
    """The map [d, h, w] of each image, a few of them in memory at a time. Raises RelookError where one has none."""
    no_vector = np.zeros(0, np.float32)
    for start in range(0, len(ids), _CHUNK):
        yield from maps_of([Description(no_vector, part) for part in source.locals(ids[start : start + _CHUNK])])


def means_of(source: DescriptorSource, ids: Sequence[str]) -> FloatArray:
    """[N, d] the mean cell of each image's map."""
    return np.stack([part.mean(axis=(1, 2)) for part in read_maps(source, ids)])
