"""Metrics and protocols for rankings.

Called by `workflow.evaluation` with rankings and a ground truth. `protocols` lists the protocols, one file each:
`labels`, `revisited`, `gldv2`, `products`, `ilias`; `official` has the authors' own re-ranked orders; `significance`
has confidence intervals and paired tests.
"""

from pipeline.evaluate.curves import RECALL_LEVELS, interpolated_precision
from pipeline.evaluate.gldv2 import (
    LandmarkRetrieval,
    landmark_retrieval,
    recognition_gap,
    recognition_top1,
)
from pipeline.evaluate.labels import by_labels
from pipeline.evaluate.metrics import Scores, average_precision, paired_difference
from pipeline.evaluate.official.rerank_orders import ames_order, cvnet_order, places_to_score, rrt_order
from pipeline.evaluate.products import by_products, nearest_neighbours, neighbours_within, reranked_neighbours
from pipeline.evaluate.protocols import PROTOCOLS, BenchmarkProtocol, protocol_named
from pipeline.evaluate.ranked_relevance import Guess, RankedRelevance, mark_relevance
from pipeline.evaluate.revisited import RevisitedTruth, by_revisited, trapezoid_average_precision
from pipeline.evaluate.significance import PairedTest, confidence_intervals, paired_tests

__all__ = [
    "PROTOCOLS",
    "RECALL_LEVELS",
    "BenchmarkProtocol",
    "Guess",
    "LandmarkRetrieval",
    "PairedTest",
    "RankedRelevance",
    "RevisitedTruth",
    "Scores",
    "ames_order",
    "average_precision",
    "by_labels",
    "by_products",
    "by_revisited",
    "confidence_intervals",
    "cvnet_order",
    "interpolated_precision",
    "landmark_retrieval",
    "mark_relevance",
    "nearest_neighbours",
    "neighbours_within",
    "paired_difference",
    "paired_tests",
    "places_to_score",
    "protocol_named",
    "recognition_gap",
    "recognition_top1",
    "reranked_neighbours",
    "rrt_order",
    "trapezoid_average_precision",
]
