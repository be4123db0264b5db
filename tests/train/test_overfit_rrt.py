"""The overfit proof of `rrt`, from the paper's start; `overfitting.overfit` asserts it."""

from __future__ import annotations

from overfitting import overfit

QUICK = ["epochs=1", "triplets=6400", "learning_rate=3e-3", "average=0.9", "weight_decay=0"]


def test_rrt_learns_eight_things_by_heart() -> None:
    overfit("rrt", [*QUICK, "rrt.start=paper", "rrt.layers=1", "rrt.locals=8"], ["locals.count=8"])
