"""The rows of many images, such as their local descriptors: one after the other without padding, or as a padded batch.

Below the rerankers that compare images two by two. Images of different numbers of rows are padded only beside their
neighbours in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Batch:
    """B images beside each other; its tensors are read, never written.

    Attributes:
        rows: [B, n, d].
        padding: [B, n] bool, True where there is no row; None: nowhere.
        whole: [B, ...] what belongs to each image as a whole.
    """

    rows: torch.Tensor
    padding: torch.Tensor | None
    whole: torch.Tensor


@dataclass(frozen=True)
class Ragged:
    """Rows of N images, one image after the other, without padding.

    Attributes:
        rows: [total, d].
        lengths: [N] int64 on the CPU, rows of each image; may be 0.
        whole: [N, ...] what belongs to each image as a whole.
    """

    rows: torch.Tensor
    lengths: torch.Tensor
    whole: torch.Tensor

    @classmethod
    def joined(cls, parts: Sequence[Ragged]) -> Ragged:
        """All images of all parts, of which there is at least one."""
        if len(parts) == 1:
            return parts[0]
        rows, lengths, whole = zip(*((part.rows, part.lengths, part.whole) for part in parts), strict=True)
        return cls(torch.cat(rows), torch.cat(lengths), torch.cat(whole))

    def batch(self, images: torch.Tensor) -> Batch:
        """The `images` [B] int64, with zeros behind the rows of those that have less than the others.

        The rows of one image alone, however often it is given, and those of neighbours of one length are not copied.
        """
        if len(images) == 1 or bool((images == images[0]).all()):
            return self._one(int(images[0]), len(images))
        if neighbours := self._neighbours(images):
            return neighbours
        device, lengths = self.rows.device, self.lengths[images]
        places = torch.arange(int(lengths.max()))
        padding = places >= lengths[:, None]
        starts = (self.lengths.cumsum(0) - self.lengths)[images]
        source = (starts[:, None] + places).masked_fill(padding, 0)
        rows = self.rows.index_select(0, source.flatten().to(device)).view(*source.shape, self.rows.shape[1])
        whole = self.whole[images.to(device)]
        if not padding.any():
            return Batch(rows, None, whole)
        padding = padding.to(device)
        return Batch(rows.masked_fill(padding.unsqueeze(-1), 0), padding, whole)

    def _one(self, image: int, count: int) -> Batch:
        """A batch that repeats one image `count` times; its rows are not copied."""
        end = int(self.lengths[: image + 1].sum())
        rows = self.rows[end - int(self.lengths[image]) : end]
        whole = self.whole[image : image + 1]
        return Batch(rows.expand(count, -1, -1), None, whole.expand(count, *whole.shape[1:]))

    def _neighbours(self, images: torch.Tensor) -> Batch | None:
        """A batch of images that follow each other and are equally long; its rows are not copied. None: they do not."""
        start, end = int(images[0]), int(images[0]) + len(images)
        lengths = self.lengths[start:end]
        if not torch.equal(images, torch.arange(start, end)) or bool((lengths != lengths[0]).any()):
            return None
        before, size = int(self.lengths[:start].sum()), int(lengths[0])
        rows = self.rows[before : before + len(images) * size]
        return Batch(rows.view(len(images), size, self.rows.shape[1]), None, self.whole[start:end])
