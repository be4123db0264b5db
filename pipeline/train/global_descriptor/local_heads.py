"""DELG's local heads in training: attention that learns from labels, and an autoencoder of local descriptors.

Trained by `train-global` beside the global descriptor, for delg_r50 and delg_r101. Cao, Araujo, Sim, ECCV 2020, section
3.3: the backbone's map is taken without gradient, so that what the local heads learn does not disturb the global
descriptor; attention weighs the autoencoder's reconstruction, whose pooled vector is classified.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from pipeline.config import LocalsLossConfig
from pipeline.describe.heads import AttentionHead


class LocalHeads(nn.Module):
    """Attention and autoencoder with what they need in training alone: decoder and classifier.

    Args:
        attention: gives each cell's weight; describes afterwards.
        encoder: 1x1 convolution to local descriptors; describes afterwards.
        classes: number of labels.
        place: which of the maps that the trunk goes through is described (DELG: the end of stage 3).
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
        """The sum of both losses of the trunk's maps and labels [B]."""
        seen = maps[self._place].detach()
        rebuilt = torch.relu(self.decoder(self.encoder(seen)))
        reconstruction = functional.mse_loss(rebuilt, seen)
        weights = self.attention(seen).unsqueeze(1)
        pooled = (functional.normalize(rebuilt, dim=1) * weights).mean(dim=(2, 3))
        attended = functional.cross_entropy(self.classifier(pooled), labels)
        return self._settings.attention * attended + self._settings.reconstruction * reconstruction
