"""Training of the product transformer: that it learns, and that what it keeps is what was validated."""

from __future__ import annotations

from overfitting import overfit

QUICK = ["epochs=1", "triplets=3200", "batch_size=32", "learning_rate=1e-3", "average=0.9", "weight_decay=0"]


def test_rrt_sop_learns_eight_things_by_heart() -> None:
    losses, score = overfit("rrt_sop", [*QUICK, "rrt_sop.start=paper", "rrt_sop.layers=1"], ["locals.kind=map"])
    print(losses[0], losses[-5:], score)
