"""What both ways of SuperGlobal's re-ranking share: their arguments. Loads no torch.

Below `superglobal.py`, in torch, and `superglobal_light.py`, which searches load.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pipeline.errors import UsageError
from pipeline.types import ModelCard


class SuperGlobalBase:
    """Scores candidates by their refined descriptors.

    Args:
        k: K, how many neighbours refine a candidate, and (with itself) how many candidates expand the query.
        beta, power: a neighbour weighs beta * similarity ** power, where a negative similarity counts as 0 unless
            `power` is 1. A power above 1 lets near duplicates refine and distant ones not.
        expansion: share of the expanded query's similarity in the score, the rest is the query's own.
        normalise: give the expanded query unit length, so that both similarities are cosines of refined descriptors.
        device: where the products are computed.
    """

    needs = frozenset({"globals"})
    scores_lists = True  # a score depends on which other candidates there are

    def __init__(
        self,
        k: int = 9,
        beta: float = 0.15,
        power: float = 1.0,
        expansion: float = 0.5,
        normalise: bool = False,
        device: str = "cpu",
    ) -> None:
        self._k = k
        self._beta = beta
        self._power = power
        self._expansion = expansion
        self._normalise = normalise
        self._device_name = device

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None = None,
        device: str = "cpu",
        k: int = 9,
        beta: float = 0.15,
        power: float = 1.0,
        expansion: float = 0.5,
        normalise: bool = False,
    ) -> Self:
        """The reranker with these settings.

        Args:
            checkpoint: None: it has no weights.
            device: where it runs.
            k, beta, power, expansion, normalise: see the class.

        Raises:
            UsageError: a checkpoint is given.
        """
        if checkpoint is not None:
            raise UsageError(f"reranker superglobal is not trained; it takes no checkpoint ({checkpoint})")
        return cls(k, beta, power, expansion, normalise, device)

    def check(self, card: ModelCard) -> None:
        """See `Reranker.check`; every global descriptor can be read."""

    def bind(self, card: ModelCard) -> Self:
        """See `Reranker.bind`."""
        return self
