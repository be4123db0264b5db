"""Training of the Reranking Transformer from stored descriptors.

A `Task` of the one loop, fed by mined triplets. Tan, Yuan, Ordonez, ICCV 2021, section 3.3: binary cross-entropy on the
logits of (anchor, positive) and (anchor, negative); here either side comes first as often, because the network is not
symmetric, and every step turns the descriptors by a random rotation, so that only their likeness can be learnt.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional

from pipeline.rerank.rrt_network import RRTNetwork, Tokens
from pipeline.train.triplets import Rows, Triplets


class RRTTask:
    """Learns to tell positives from hard negatives.

    Args:
        network: what is trained; its projection of the globals is not.
        tokens: of all N pictures, in the rows that `triplets` names; the globals are projected to [N, d_model] already,
            each by a projection that was fitted without it, so that they look as those of new photos will.
        triplets: the miner.
        per_epoch: triplets per epoch.
        batch_size: triplets per step.
        device: where it runs.
    """

    def __init__(
        self,
        network: RRTNetwork,
        tokens: Tokens,
        triplets: Triplets,
        per_epoch: int,
        batch_size: int,
        device: torch.device,
    ) -> None:
        self.network = network
        self._tokens = tokens
        self._triplets = triplets
        self._per_epoch = per_epoch
        self._batch_size = batch_size
        self._device = device

    @property
    def anchors(self) -> int:
        """Pictures that have both a positive and a negative."""
        return len(self._triplets.anchors)

    def steps(self) -> int:
        """See `Task.steps`."""
        return -(-self._per_epoch // self._batch_size)

    def batches(self, rng: np.random.Generator) -> Iterator[Rows]:
        """See `Task.batches`; [batch_size, 3] rows each."""
        drawn = self._triplets.epoch(self._per_epoch, rng)
        for start in range(0, len(drawn), self._batch_size):
            yield drawn[start : start + self._batch_size]

    def loss(self, batch: Rows) -> torch.Tensor:
        """See `Task.loss`."""
        anchor, positive, negative = torch.from_numpy(batch).unbind(1)
        left, right = torch.cat([anchor, anchor]), torch.cat([positive, negative])
        swap = torch.rand(len(left)) < 0.5
        left, right = torch.where(swap, right, left), torch.where(swap, left, right)
        width = self.network.shape.d_model
        turns = [torch.linalg.qr(torch.randn(width, width))[0] for _ in range(2)]
        source, target = (_turned(self._tokens[rows], *turns).to(self._device) for rows in (left, right))
        logits = self.network(source, target, remapped=True)
        truth = torch.cat([torch.ones(len(anchor)), torch.zeros(len(anchor))]).to(self._device)
        return functional.binary_cross_entropy_with_logits(logits, truth)


def _turned(tokens: Tokens, global_turn: torch.Tensor, local_turn: torch.Tensor) -> Tokens:
    return Tokens(tokens.vector @ global_turn, tokens.locals @ local_turn, tokens.scale, tokens.padding)
