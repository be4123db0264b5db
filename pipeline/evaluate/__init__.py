"""Metrics and protocols: how good a ranking is.

Last in the flow beside `report`: `stages.evaluate` hands it rankings and a ground truth. One file per protocol:
`labels`, `revisited` (and the `published` re-rankings on it), `landmarks`, `products`.
"""

from pipeline.evaluate.labels import by_labels
from pipeline.evaluate.landmarks import (
    Guess,
    LandmarkRetrieval,
    landmark_retrieval,
    recognition_gap,
    recognition_top1,
)
from pipeline.evaluate.metrics import Scores, average_precision, paired_difference
from pipeline.evaluate.products import by_products, nearest_neighbours, neighbours_within, reranked_neighbours
from pipeline.evaluate.published import ames_order, cvnet_order, places_to_score, rrt_order
from pipeline.evaluate.revisited import RevisitedTruth, by_revisited, trapezoid_average_precision

__all__ = [
    "Guess",
    "LandmarkRetrieval",
    "RevisitedTruth",
    "Scores",
    "ames_order",
    "average_precision",
    "by_labels",
    "by_products",
    "by_revisited",
    "cvnet_order",
    "landmark_retrieval",
    "nearest_neighbours",
    "neighbours_within",
    "paired_difference",
    "places_to_score",
    "recognition_gap",
    "recognition_top1",
    "reranked_neighbours",
    "rrt_order",
    "trapezoid_average_precision",
]
