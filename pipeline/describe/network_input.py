"""What the network reads of prepared pictures: their bytes as normalised floats, at each scale.

Between `preprocessing`, which knows no torch, and `network_pass`. Training reads pixels in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.nn import functional

from pipeline.config import ImageConfig
from pipeline.describe.network import DescriberNetwork
from pipeline.describe.preprocessing import Normalisation, scaled_size
from pipeline.describe.runtimes.compiled_backbone import CompiledBackbone
from pipeline.types import Prepared


class NetworkInput:
    """Prepared pictures as tensors.

    Args:
        network: that reads them; its backbone may be compiled later.
        image: how pixels are read; mean and standard deviation are set.
        scales: of the pyramid.
        device: where the network runs.
    """

    def __init__(
        self, network: DescriberNetwork, image: ImageConfig, scales: Sequence[float], device: torch.device
    ) -> None:
        self._network, self._image, self._scales, self._device = network, image, scales, device
        self._patch = network.backbone.patch
        self._mean = torch.tensor(image.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(image.std, device=device).view(1, 3, 1, 1)
        self._normalise = Normalisation(image)

    def normalised(self, batch: Sequence[Prepared], number: int = 0) -> torch.Tensor:
        """What the network reads of the scale `number`: [B, 3, h, w] float32, channels in its order."""
        pictures = [item.pixels[number] for item in batch]
        if self._device.type != "cpu":  # bytes are sent there, not floats
            return self.as_read(torch.from_numpy(np.stack(pictures)))
        images = torch.from_numpy(self._normalise(pictures))
        compiled = isinstance(self._network.backbone, CompiledBackbone)
        return images if compiled else images.contiguous(memory_format=torch.channels_last)

    def as_read(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels [B, 3, h, w] uint8 RGB as the network reads them: normalised, channels in its order."""
        stacked = pixels.to(self._device)
        # In this order, as the papers' code does: float32 rounds, and descriptors are compared to the last digits.
        images = (stacked / 255 - self._mean) / self._std
        if self._image.channels == "bgr":
            images = images.flip(1)
        return images.contiguous(memory_format=torch.channels_last)

    @property
    def reads(self) -> str:
        """What `as_read` does, in words: equal for describers that read pixels in the same way."""
        return f"{self._image.channels} - {self._image.mean} / {self._image.std}"

    def pyramid(self, batch: Sequence[Prepared]) -> Iterator[tuple[float, torch.Tensor]]:
        """Each scale and its images [B, 3, h, w] as the network reads them."""
        if self._image.scaling == "picture":
            for number, scale in enumerate(self._scales):
                yield scale, self.normalised(batch, number)
            return
        images = self.normalised(batch)
        height, width = images.shape[-2:]
        for scale in self._scales:
            size = scaled_size(height, width, scale, self._patch)
            if scale == 1:
                yield scale, images
            else:
                yield (
                    scale,
                    functional.interpolate(
                        images, size, mode="bilinear", align_corners=False, antialias=self._image.antialias
                    ),
                )
