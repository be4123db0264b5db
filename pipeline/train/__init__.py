"""Training: the one loop, the tasks that it runs, and what they are made of: miners, samplers, losses.

`train-global` and `train-rerank` wire this room to photos, index and store. `loop.fit` runs any `Task`; `recipes.py`
names the rerankers that can be trained.
"""

from pipeline.train.data.hold_out import Partition, hold_out_labels, hold_out_sessions
from pipeline.train.data.training_set import JointRecipe, Photos, Recipe, TrainedReranker, TrainingSet
from pipeline.train.data.triplets import MiningError
from pipeline.train.loop.dry_run import DryRun, dry_run
from pipeline.train.loop.engine import Progress
from pipeline.train.loop.fit import Files, Trained, fit
from pipeline.train.loop.task import Task, Validation
from pipeline.train.rerankers.registry import RECIPES

__all__ = [
    "RECIPES",
    "DryRun",
    "Files",
    "JointRecipe",
    "MiningError",
    "Partition",
    "Photos",
    "Progress",
    "Recipe",
    "Task",
    "Trained",
    "TrainedReranker",
    "TrainingSet",
    "Validation",
    "dry_run",
    "fit",
    "hold_out_labels",
    "hold_out_sessions",
]
