"""Training: miners, losses and the one loop.

`train-rerank` wires this room to the index and the store; what is learnt is a network of `pipeline.rerank`.
"""

from pipeline.train.loop import Progress, Task, Validation, fit
from pipeline.train.rrt import RRTTask
from pipeline.train.rrt_start import calibrate_skip, start_comparing
from pipeline.train.sessions import halves, hold_out_labels, hold_out_sessions
from pipeline.train.triplets import MiningError, Triplets
from pipeline.train.whitening import within_class_whitening

__all__ = [
    "MiningError",
    "Progress",
    "RRTTask",
    "Task",
    "Triplets",
    "Validation",
    "calibrate_skip",
    "fit",
    "halves",
    "hold_out_labels",
    "hold_out_sessions",
    "start_comparing",
    "within_class_whitening",
]
