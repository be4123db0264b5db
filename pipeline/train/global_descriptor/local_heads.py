"""DELG's local heads in training: attention trained with labels, and an autoencoder of local descriptors.

Trained by `train-global` beside the global descriptor, for delg_r50 and delg_r101. Cao, Araujo, Sim, ECCV 2020, section
3.3: the backbone's map is detached, so that the local heads do not disturb the global descriptor; attention weighs the
autoencoder's reconstruction, whose pooled vector is classified.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from pipeline.config import LocalsLossConfig
from pipeline.describe.heads import AttentionHead


class LocalHeads(nn.Module):
    """Attention and autoencoder, with the decoder and the classifier that only training needs.

    Args:
        attention: gives each cell's weight; part of the describer.
        encoder: 1x1 convolution to local descriptors; part of the describer.
        classes: number of labels.
        place: index of the trunk's map that they read (DELG: the end of stage 3).
        settings: weights of the two losses.
    """

    def __init__(
        self, attention: AttentionHead, encoder: nn.Conv2d, classes: int, place: int, settings: LocalsLossConfig
    ) -> None:
        super().__init__()
        channels = encoder.in_channels
        self.attention, self.encoder = attention.requires_grad_(True), encoder.requires_grad_(True)
        self.decoder = nn.Conv2d(encoder.out_channels, channels, 1)
        self.classifier = nn.Linear(channels, classes)
        self._place, self._settings = place, settings

    def forward(self, maps: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        """The weighted sum of both losses, a scalar, from the trunk's maps and labels [B]."""
        features = maps[self._place].detach()
        decoded = torch.relu(self.decoder(self.encoder(features)))
        reconstruction_loss = functional.mse_loss(decoded, features)
        weights = self.attention(features).unsqueeze(1)
        pooled = (functional.normalize(decoded, dim=1) * weights).mean(dim=(2, 3))
        attention_loss = functional.cross_entropy(self.classifier(pooled), labels)
        return self._settings.attention * attention_loss + self._settings.reconstruction * reconstruction_loss
