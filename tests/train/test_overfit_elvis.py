"""The overfit proof of `elvis`; `overfitting.overfit` asserts it."""

from __future__ import annotations

from overfitting import overfit

QUICK = ["epochs=1", "triplets=4800", "batch_size=32", "learning_rate=1e-2", "average=0.9", "weight_decay=0"]
LOCALS = ["elvis.least_locals=16", "elvis.query_locals=16", "elvis.gallery_locals=16"]


def test_elvis_learns_eight_things_by_heart() -> None:
    overfit("elvis", [*QUICK, *LOCALS], ["locals.count=16"])
