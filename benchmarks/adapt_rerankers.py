"""Rerankers that are trained from the groups of `relook adapt`, beside the same from true labels.

Called by `adapt.py --rerankers`. An index is described once; the groups become the labels of a copy of it, as
`relook extract groups.csv` does it, and `relook train-rerank` trains on either. Groups are also taken as if they were
complete labels, so that it shows what `train_rerank.labels=groups` brings.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from pipeline.config import Config, load_config
from pipeline.evaluate import Scores
from pipeline.stages.evaluate import evaluate
from pipeline.stages.extract import extract
from pipeline.stages.train_rerank import TrainRerankResult, train_rerank
from pipeline.workflow.gallery import open_gallery
from pipeline.workflow.progress import Silent
from pipeline.workflow.training.groups_table import write_groups

# As in docs/training.md: some 20 CPU-seconds for ELViS.
SHORT = ("train_rerank.epochs=4", "train_rerank.triplets=3200")
Add = Callable[[str, Sequence[str]], None]


@dataclass(frozen=True)
class Bench:
    """Where rerankers are trained and measured.

    Attributes:
        work: folder of the checkpoints and of the index with groups as labels.
        learn: directory of the index with true labels, which has local descriptors.
        measured: directories of the indexes that are measured, by name.
        settings: of all of them.
        seeds: of the trainings.
    """

    work: Path
    learn: Path
    measured: Mapping[str, Path]
    settings: tuple[str, ...]
    seeds: Sequence[int]

    def config(self, index: Path, *more: str) -> Config:
        """The configuration of an index."""
        return load_config(overrides=["catalog.outside=allow", f"index={index}", *self.settings, *more])

    def grouped(self, place_of: Mapping[str, int], number: np.ndarray) -> Path:
        """The index with groups as labels. No photo is described for it."""
        there, manifest = self.work / "learn-groups", self.work / "groups.csv"
        with open_gallery(self.config(self.learn)) as gallery:
            write_groups(manifest, gallery.index, place_of, number)
        if not there.exists():
            shutil.copytree(self.learn, there)
        done = extract(self.config(there), str(manifest), Silent())
        assert done.added == done.changed == 0, done
        return there

    def rows(self, reranker: str, grouped: Path, add: Add) -> None:
        """One row per kind of labels and measured index."""
        for what, index, more in (
            ("groups", grouped, ("train_rerank.labels=groups",)),
            ("groups, as complete labels", grouped, ()),
            ("true labels", self.learn, ()),
        ):
            trained = [self._trained(reranker, what, index, seed, more) for seed in self.seeds]
            for name, directory in self.measured.items():
                scores = [self._scores(reranker, directory, result.checkpoint) for result in trained]
                cells = [f"{trained[0].anchors:,}", ", ".join(f"{one.best['weight']:.1f}" for one in trained)]
                add(name, [f"{reranker}: {what}", *cells, *measured_cells(scores)])

    def _trained(self, reranker: str, what: str, index: Path, seed: int, more: Sequence[str]) -> TrainRerankResult:
        out = self.work / f"{reranker} - {what} - {seed}.safetensors"
        names = (f"train_rerank.reranker={reranker}", f"train_rerank.out={out}", f"seed={seed}")
        return train_rerank(self.config(index, *SHORT, *names, *more))

    def _scores(self, reranker: str, index: Path, checkpoint: str) -> tuple[Scores, Scores]:
        chain = f"rerank.chain=[{reranker}]", f"rerank.{reranker}.checkpoint={checkpoint}"
        result = evaluate(self.config(index, *chain), None, None, Silent())
        assert result.after is not None
        return result.before, result.after


def measured_cells(scores: Sequence[tuple[Scores, Scores]]) -> list[str]:
    """mAP with its spread over seeds, R@1, and the mean paired difference with its standard error over queries."""
    before = scores[0][0].per_query
    maps, first = (np.array([100 * after.per_query[name] for _, after in scores]) for name in ("mAP", "R@1"))
    spread = f" ({maps.mean(axis=1).std(ddof=1):.1f})" if len(scores) > 1 else ""
    found = [f"{maps.mean():.1f}{spread}", f"{first.mean():.1f}"]
    for values, name in ((maps, "mAP"), (first, "R@1")):
        gained = values.mean(axis=0) - 100 * before[name]
        found.append(f"{gained.mean():+.1f} ±{gained.std(ddof=1) / len(gained) ** 0.5:.1f}")
    return found


def new_table(title: str) -> Table:
    """A table for the rows of `Bench.rows`."""
    table = Table(title=title, title_justify="left")
    for heading in ("trained on", "anchors", "weights", "mAP", "R@1", "difference in mAP", "in R@1"):
        table.add_column(heading, justify="left" if heading == "trained on" else "right")
    return table
