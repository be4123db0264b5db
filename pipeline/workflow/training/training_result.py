"""The result of a training, in fields that every training has.

`train-global`, `train-rerank` and `train-detector` add their own counts to it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from pipeline.train import FitResult


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a training did.

    Attributes:
        checkpoint: path of the best one.
        epochs: how many were trained.
        best: the best "epoch", from 1, and, if it was validated, its metrics in percent.
        history: metrics by name for each epoch.
        validation_queries: held-out queries of each validation.
        seconds: in all, before a kill as well.
        weights: that the describer's backbone started from.
        losses: of every step.
    """

    checkpoint: str
    epochs: int
    best: dict[str, float]
    history: list[dict[str, float]]
    validation_queries: int
    seconds: float
    weights: str
    losses: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, trained: FitResult, checkpoint: Path, **own: Any) -> Self:
        """The result of the loop, with the fields that the loop does not know."""
        return cls(
            checkpoint=str(checkpoint),
            epochs=len(trained.history),
            best={"epoch": trained.best_epoch, **trained.best.metrics},
            history=trained.history,
            seconds=trained.seconds,
            losses=trained.losses,
            **own,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values without the losses, for `--json`; the keys are the CLI's contract."""
        document = asdict(self)
        del document["losses"]
        return document
