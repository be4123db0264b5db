"""Metrics and protocols: how good a ranking is.

Last in the flow beside `report`: `stages.evaluate` hands it rankings and a ground truth.
"""

from pipeline.evaluate.labels import by_labels
from pipeline.evaluate.metrics import Scores, average_precision, paired_difference

__all__ = ["Scores", "average_precision", "by_labels", "paired_difference"]
