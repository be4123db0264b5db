"""Matching and calibrated fusion on the lists of trained describers: docs/training.md.

    python benchmarks/rerank_trained.py --work DIR

Describers are those of `train_grocery.py` (the same --work; trained here where they are missing). What fuses the scores
is chosen on labels of the train list that no describer was trained on: describers of the experiment "other classes",
and draws of three to six train photos a label that query each other, as in `val`. A weight of `matching` is chosen
there, and beside it the calibrations and weights of `relook calibrate` are fitted. Then `val` is measured, with
describers of all labels: with the configured weight, the chosen one, and the calibrations. `--size` describes at
another size than that of the training, `--last-epoch` trains one more epoch with pictures of that size. Each pair of
photos is matched once; scores are kept in DIR.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from grocery import write_manifest
from matched_pairs import MatchedPairs
from rich.console import Console
from rich.table import Table
from train_grocery import RECIPES, Vectors, experiments, ranked, trained, trained_on

from pipeline.catalog import Catalog
from pipeline.config import load_config
from pipeline.report import Bars
from pipeline.rerank import RerankStep
from pipeline.types import ModelCard, Ranking
from pipeline.workflow.calibration.pairs import LabelledList
from pipeline.workflow.calibration.tuning import Outcome, fit_chain, replay
from pipeline.workflow.model_loading import open_chain

CHAINS = ["matching", "superglobal,matching", "k_reciprocal,matching", "matching,k_reciprocal"]
WEIGHTS: list[float] = np.linspace(0, 1, 21).round(2).tolist()
# Size of the training pictures.
TRAINED_AT = 224


def main() -> None:
    """Match, choose, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="the --work of train_grocery.py")
    parser.add_argument("--recipe", default="CVNet", choices=list(RECIPES), metavar="RECIPE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the describers for val")
    parser.add_argument(
        "--held-out-seeds", type=int, nargs="+", default=[0], help="of those that the choice is made with"
    )
    parser.add_argument("--draws", type=int, default=3, help="of held-out photos")
    parser.add_argument("--size", type=int, nargs="+", default=[TRAINED_AT], help="pixels of the square of that area")
    parser.add_argument("--last-epoch", type=int, metavar="PIXELS", help="of its pictures; none without it")
    parser.add_argument("--chain", nargs="+", default=CHAINS, metavar="NAME,NAME")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each N-th photo of val is a query")
    parser.add_argument("--keypoints", type=int, default=512, help="of each photo, at most")
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE", help="of a training"
    )
    arguments = parser.parse_args()
    console = Console(width=170)
    lists = Lists(arguments.work, arguments.recipe, arguments.last_epoch, arguments.keypoints, arguments.overrides)
    val = experiments()[0][2]
    for names in arguments.chain:
        before: list[Outcome] = []
        for size in arguments.size:
            held_out = [
                lists.of(names, "other classes", seed, size, photos)
                for seed in arguments.held_out_seeds
                for photos in draws(arguments.draws)
            ]
            found = [
                lists.of(names, "classes of the training set", seed, size, val, arguments.every)
                for seed in arguments.seeds
            ]
            before = before or [replay([], one.lists) for one in found]
            console.print(table(f"{names}, {size} px", held_out, found, before))


def draws(count: int) -> list[Catalog]:
    """Train photos of labels that "other classes" does not train on: three to six of each label."""
    (_, train, _), (_, seen, _) = experiments()
    known = {record.label for record in seen}
    photos: dict[str, list[int]] = {}
    for row, record in enumerate(train):
        if record.label not in known:
            photos.setdefault(record.label, []).append(row)
    found = []
    for number in range(count):
        rng = np.random.default_rng(number)
        rows = [row for own in photos.values() for row in rng.choice(own, rng.integers(3, 7), replace=False).tolist()]
        found.append(Catalog(train.root, tuple(train.records[row] for row in sorted(rows))))
    return found


class Lists:
    """Scores of the candidates of each query, by describer.

    Args:
        work: folder of checkpoints and of the scores of pairs.
        recipe: of the describers.
        last_epoch: size of the pictures of one more epoch, in pixels; None: there is none.
        keypoints: of each photo.
        overrides: of the training of a describer that is missing, and of the chains.
    """

    def __init__(
        self, work: Path, recipe: str, last_epoch: int | None, keypoints: int, overrides: Sequence[str]
    ) -> None:
        self._work, self._recipe, self._last_epoch = work, recipe, last_epoch
        self._keypoints, self._overrides = keypoints, overrides
        self._described: dict[tuple[str, int, int], Vectors] = {}
        self._matched: MatchedPairs | None = None

    def of(self, names: str, experiment: str, seed: int, size: int, photos: Catalog, every: int = 1) -> ScoredLists:
        """The lists of each `every`-th photo, by the describer of a seed and scored by the chain `names`."""
        described = self._describer(experiment, seed, size)
        chain = self._chain(names, described.card)
        rankings = ranked(described.of(photos), photos, chain, every)
        return ScoredLists(chain, [one for one in (labelled(found, photos) for found in rankings) if one.positives])

    def _describer(self, experiment: str, seed: int, size: int) -> Vectors:
        key = experiment, seed, size
        if key not in self._described:
            catalog = {name: train for name, train, _ in experiments()}[experiment]
            write_manifest(self._work / f"{experiment}.csv", catalog)
            given = self._work, experiment, self._recipe, seed, TRAINED_AT
            bars = Bars(Console(stderr=True))
            path, _ = (
                trained(*given, self._overrides, bars)
                if self._last_epoch is None
                else trained_on(*given, self._last_epoch, self._overrides, bars)
            )
            self._described[key] = Vectors(size, [1.0], path)
        return self._described[key]

    def _chain(self, names: str, card: ModelCard) -> list[RerankStep]:
        given = [f"rerank.chain={json.dumps(names.split(','))}", f"rerank.matching.keypoints={self._keypoints}"]
        chain = open_chain(load_config(overrides=[*given, *self._overrides]), card)
        return [replace(step, reranker=self._known(step, card)) if step.name == "matching" else step for step in chain]

    def _known(self, step: RerankStep, card: ModelCard) -> MatchedPairs:
        if self._matched is None:
            train, val = (experiments()[0][1], experiments()[0][2])
            both = Catalog(train.root, (*train.records, *val.records))
            file = self._work / f"matched pairs, {self._keypoints} keypoints.json"
            self._matched = MatchedPairs(step.reranker, both, card, file, self._keypoints)
        return self._matched


@dataclass(frozen=True)
class ScoredLists:
    """What a chain as configured made of photos that query each other."""

    chain: list[RerankStep]
    lists: list[LabelledList]


def labelled(ranking: Ranking, photos: Catalog) -> LabelledList:
    """A ranking in the order of its global search, with the scores of each reranker."""
    label = {record.id: record.label for record in photos}
    order = np.argsort(ranking.explanation["global_rank"])
    own = label[ranking.query_id]
    relevant = np.array([label[ranking.ids[row]] == own for row in order], np.bool_)
    reranked = {name: values for name, values in ranking.explanation.items() if not name.startswith("global_")}
    return LabelledList(
        own,
        np.asarray(ranking.explanation["global_score"][order], np.float32),
        relevant,
        int(relevant.sum()),
        {name: np.asarray(values[order], np.float32) for name, values in reranked.items()},
    )


def table(
    title: str, held_out: Sequence[ScoredLists], measured: Sequence[ScoredLists], before: Sequence[Outcome]
) -> Table:
    """Rows of one chain: what it is without matching, as configured, and with what was chosen on held-out labels.

    `before` is the global search of each seed, at the first size.
    """
    chain = held_out[0].chain
    pooled = [one for found in held_out for one in found.lists]
    rows: dict[str, list[RerankStep]] = {"global search": [], "as configured": chain}
    without = [step for step in chain if step.name != "matching"]
    if len(without) < len(chain):
        best = best_weight(chain, pooled)
        rows |= {"without matching": without, f"weight {best:g}": weighed(chain, best)}
    fitted = [replace(step, margin=None) for step in fit_chain(chain, pooled)[0]]
    rows[f"calibrated, weights {', '.join(f'{step.weight:g}' for step in fitted)}"] = fitted
    made = Table(title=f"{title}; {len(pooled)} held-out queries", title_justify="left")
    differences = ("to the global search", "to without matching")
    for heading in ("", "held out: mAP", "R@1", "val: mAP", "of seeds", "R@1", *differences):
        made.add_column(heading, justify="right" if heading else "left")
    bare = [replay(without, one.lists) for one in measured]
    for name, steps in rows.items():
        chosen, found = replay(steps, pooled), [replay(steps, one.lists) for one in measured]
        each = [100 * one.precision.mean() for one in found]
        mean = np.mean([one.precision for one in found], axis=0)
        made.add_row(
            name,
            *(f"{100 * values.mean():.2f}" for values in (chosen.precision, chosen.first)),
            f"{100 * mean.mean():.2f} ± {100 * error(mean):.2f}",
            f"{np.std(each, ddof=1):.2f}" if len(each) > 1 else "",
            f"{100 * np.mean([one.first.mean() for one in found]):.2f}",
            *(gain(reference, found) for reference in (before, bare)),
        )
    return made


def best_weight(chain: Sequence[RerankStep], lists: Sequence[LabelledList]) -> float:
    """The weight of `matching` with the best mAP, of equal ones the largest."""
    means = [replay(weighed(chain, weight), lists).precision.mean() for weight in WEIGHTS]
    return max(weight for weight, mean in zip(WEIGHTS, means, strict=True) if mean >= max(means) - 1e-9)


def weighed(chain: Sequence[RerankStep], weight: float) -> list[RerankStep]:
    """The chain with a weight of `matching`."""
    return [replace(step, weight=weight) if step.name == "matching" else step for step in chain]


def gain(before: Sequence[Outcome], after: Sequence[Outcome]) -> str:
    """Mean paired differences in mAP and R@1, means over seeds, with standard errors over queries."""
    cells = []
    for name in ("precision", "first"):
        pairs = zip(before, after, strict=True)
        change = np.mean([getattr(new, name) - getattr(old, name) for old, new in pairs], axis=0)
        cells.append(f"{100 * change.mean():+.2f} ± {100 * error(change):.2f}")
    return " / ".join(cells)


def error(values: np.ndarray) -> float:
    """The standard error of a mean."""
    return float(values.std(ddof=1) / len(values) ** 0.5)


if __name__ == "__main__":
    main()
