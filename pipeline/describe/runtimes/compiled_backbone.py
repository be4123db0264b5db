"""A backbone whose maps a compiled runtime computes; all else of it is that of the torch backbone.

Put by `NetworkDescriber` in the place of its network's backbone, so that heads, local selection and projections stay
what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.describe.backbones import Backbone, Tap
from pipeline.describe.runtimes.base import FINAL, Session
from pipeline.describe.runtimes.export import tap_name


class CompiledBackbone(nn.Module):
    """See `Backbone`, whose attributes it has.

    Args:
        backbone: whose graph was exported.
        session: of that graph.
    """

    def __init__(self, backbone: Backbone, session: Session) -> None:
        super().__init__()
        self.torch_backbone = backbone
        self._session = session

    def forward(self, images: torch.Tensor, taps: Sequence[Tap] = ()) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """See `Backbone.forward`; `taps` are among those that were exported."""
        names = [FINAL, *map(tap_name, taps)]
        found = self._session.run(np.ascontiguousarray(images.numpy()), names)
        final, *tapped = [torch.from_numpy(found[name]) for name in names]
        return final, tapped

    def __getattr__(self, name: str) -> Any:
        """What a describer reads of a backbone, such as its architecture."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("torch_backbone"), name)
