"""The overfit proof of each recipe of `train-rerank`: a few things, learnt until nothing is left to learn.

A recipe that cannot learn eight things of the sample photos by heart has a defect, however good its figures elsewhere.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from photos import ROOT

from pipeline.config import Config, load_config
from pipeline.evaluate import by_labels
from pipeline.rerank import RerankStep, apply_chain
from pipeline.stages.extract import extract
from pipeline.train import RECIPES, RunFiles, TrainedReranker, Validation, fit
from pipeline.workflow.gallery import Gallery, open_gallery
from pipeline.workflow.queries import find_candidates
from pipeline.workflow.training.training_set import make_training_set

CLASSES = (
    *("book_a", "brick_house_a", "city_gate_a", "clock_tower_a"),
    *("lighthouse_a", "painting_a", "statue_a", "vase_a"),
)
SMALL = ["describe.image.size=128", "describe.globals.scales=[1.0]", "describe.locals.scales=[1.0]"]
# Of the loss at the start, and percent.
LEFT = 0.05
LEAST = 99.0
# Steps whose mean is the loss at the end.
LAST = 10


def overfit(recipe: str, settings: Sequence[str] = (), describe: Sequence[str] = ()) -> tuple[list[float], float]:
    """Train on eight classes of the sample photos (8 views each) and ask with the same photos; assert that it learnt.

    Args:
        recipe: a name of `RECIPES`.
        settings: `train_rerank` overrides without that prefix, such as "epochs=10" or "rrt.layers=1".
        describe: `describe` overrides without that prefix, such as "locals.count=50"; pictures are 128 px at one scale
            unless they say otherwise.

    Returns:
        The loss of every step, and the mAP in percent of the reranker's order alone, with nothing of the global search.
    """
    with tempfile.TemporaryDirectory(prefix="relook-overfit-") as name:
        folder = Path(name)
        chosen = [f"describe.{text}" for text in describe] + [f"train_rerank.{text}" for text in settings]
        config = load_config(None, [f"index={folder / 'index'}", f"train_rerank.reranker={recipe}", *SMALL, *chosen])
        extract(config, str(manifest_of_samples(folder / "photos")))
        losses, score = _learn(config, open_gallery(config), folder)
    start, end = losses[0], float(np.mean(losses[-LAST:]))
    assert end < LEFT * start, f"{recipe}: the loss went from {start:.4f} to {end:.4f} in {len(losses)} steps"
    assert score >= LEAST, f"{recipe}: {score:.2f} mAP on what it learnt from"
    return losses, score


def manifest_of_samples(folder: Path, classes: Sequence[str] = CLASSES) -> Path:
    """A manifest in `folder` of these classes of the sample photos."""
    samples = ROOT / "data" / "samples"
    with (samples / "manifest.csv").open(newline="") as stream:
        rows = [(row["path"], row["label"]) for row in csv.DictReader(stream) if row["label"] in classes]
    for path, _ in rows:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(samples / path, folder / path)
    with (folder / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label"), *rows])
    return folder / "manifest.csv"


def _learn(config: Config, gallery: Gallery, folder: Path) -> tuple[list[float], float]:
    settings = config.train_rerank
    records = list(gallery.index.records.values())
    vectors = gallery.globals([record.id for record in records])
    training_set = make_training_set(gallery, records, vectors, np.arange(len(records)))
    recipe = RECIPES[settings.reranker](training_set, settings, config.seed, "cpu")
    trained = fit(
        recipe.task,
        settings,
        lambda: Validation(score := alone(recipe.reranker, gallery, min(recipe.temperatures)), {"mAP": score}),
        lambda which, validation: None,
        files=RunFiles(folder / "state", folder / "log"),
        identity="overfit",
        seed=config.seed,
        device=torch.device("cpu"),
    )
    return trained.losses, trained.history[-1]["mAP"]


def alone(reranker: TrainedReranker, gallery: Gallery, temperature: float = 1.0) -> float:
    """The mAP when every picture of the index asks for the others of its label, by the reranker's scores alone."""
    records = list(gallery.index.records.values())
    ids = [record.id for record in records]
    descriptions = gallery.describe(ids, reranker.needs)
    itself = [frozenset({name}) for name in ids]
    candidates = find_candidates(gallery, ids, descriptions, len(ids), itself)
    reranker.temperature = temperature
    rankings = apply_chain([RerankStep("it", reranker, len(ids), 0.0)], descriptions, candidates, gallery)
    labels = {record.id: record.label for record in records}
    return by_labels(rankings, list(labels.values()), labels, itself)[0].summary()["mAP"]
