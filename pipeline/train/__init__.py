"""Training: the loop, the tasks that it runs, and their miners, samplers and losses.

`train-global` and `train-rerank` connect this room to photos, index and store. `fit` runs any `TrainingTask`;
`RECIPES` names the rerankers that can be trained.
"""

from pipeline.train.data.hold_out import Partition, hold_out_labels, hold_out_sessions
from pipeline.train.data.training_set import JointRecipe, Photos, Recipe, TrainedReranker, TrainingSet
from pipeline.train.data.triplets import MiningError
from pipeline.train.loop.dry_run import DryRun, dry_run
from pipeline.train.loop.engine import Progress
from pipeline.train.loop.fit import FitResult, RunFiles, fit
from pipeline.train.loop.task import TrainingTask, Validation
from pipeline.train.rerankers.registry import RECIPES

__all__ = [
    "RECIPES",
    "DryRun",
    "FitResult",
    "JointRecipe",
    "MiningError",
    "Partition",
    "Photos",
    "Progress",
    "Recipe",
    "RunFiles",
    "TrainedReranker",
    "TrainingSet",
    "TrainingTask",
    "Validation",
    "dry_run",
    "fit",
    "hold_out_labels",
    "hold_out_sessions",
]
