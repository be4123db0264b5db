"""How each reranker is trained, by its registry name. A new one is one file in this room and one line here."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.config import TrainRerankConfig
from pipeline.train.data.training_set import Recipe, TrainingSet
from pipeline.train.rerankers.ames_binarised import ames_recipe
from pipeline.train.rerankers.cvnet import CVNetRecipe
from pipeline.train.rerankers.elvis import ELViSRecipe
from pipeline.train.rerankers.locore import LoCoReRecipe
from pipeline.train.rerankers.rrt import RRTRecipe
from pipeline.train.rerankers.rrt_sop import RRTSOPRecipe
from pipeline.train.rerankers.rrt_sop_joint import RRTSOPJointRecipe


def _rrt_sop(training_set: TrainingSet, settings: TrainRerankConfig, seed: int, device: str) -> Recipe:
    """From stored maps, or from photos together with its describer."""
    made = RRTSOPRecipe if settings.rrt_sop.joint is None else RRTSOPJointRecipe
    return made(training_set, settings, seed, device)


# Each is called with the training set, the settings, a seed and a device.
RECIPES: dict[str, Callable[[TrainingSet, TrainRerankConfig, int, str], Recipe]] = {
    "cvnet": CVNetRecipe,
    "ames": ames_recipe,
    "locore": LoCoReRecipe,
    "elvis": ELViSRecipe,
    "rrt": RRTRecipe,
    "rrt_sop": _rrt_sop,
}
