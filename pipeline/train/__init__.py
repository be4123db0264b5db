"""Training: the one loop, the tasks that it runs, and what they are made of: miners, samplers, losses.

`train-global` and `train-rerank` wire this room to photos, index and store. `loop.fit` runs any `Task`; `recipes.py`
names the rerankers that can be trained.
"""

from pipeline.train.dry_run import DryRun, dry_run
from pipeline.train.engine import Progress
from pipeline.train.lesson import JointRecipe, Lesson, Photos, Recipe, TrainedReranker
from pipeline.train.loop import Files, Trained, fit
from pipeline.train.recipes import RECIPES
from pipeline.train.sessions import Partition, hold_out_labels, hold_out_sessions
from pipeline.train.task import Task, Validation
from pipeline.train.triplets import MiningError

__all__ = [
    "RECIPES",
    "DryRun",
    "Files",
    "JointRecipe",
    "Lesson",
    "MiningError",
    "Partition",
    "Photos",
    "Progress",
    "Recipe",
    "Task",
    "Trained",
    "TrainedReranker",
    "Validation",
    "dry_run",
    "fit",
    "hold_out_labels",
    "hold_out_sessions",
]
