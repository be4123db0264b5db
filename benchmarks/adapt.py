"""What `relook adapt` brings without labels, beside controls: whitening alone, k-means, unverified pairs, true labels.

    python benchmarks/adapt.py --work FOLDER [--sets scenes landmarks grocery unseen] [--third] [--set KEY=VALUE]
        [--network] [--rerankers elvis rrt]

Sets: `scenes`, the validation photos of the demo, and `landmarks` learn from the photos that are searched; `grocery`
learns from the train list (a third of it with `--third`) and is measured on `val` and on the photos that it learnt
from; `unseen` learns from the photos of classes not divisible by 3 and is measured on the others. The photos of
Grocery and of the landmarks lie in `RELOOK_SHARED` (or `../shared`).

`--rerankers` prints other tables instead: rerankers that are trained from the groups (adapt_rerankers.py).

Labels are read to measure, and by the rows that say so. Indexes and verified pairs stay in `--work`, so that a run that
was stopped goes on. Every row but the first two is learnt by the procedure of `relook adapt`, from other groups.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from adapt_rerankers import Bench, new_table
from rich.console import Console
from rich.table import Table

from pipeline.config import Config, load_config
from pipeline.describe.projections import fit_pca
from pipeline.evaluate import by_labels
from pipeline.report import Bars
from pipeline.stages.extract import extract
from pipeline.stages.train_global import train_global
from pipeline.train.adaptation.group_pairs import Groups
from pipeline.train.init.whitening import Whitening
from pipeline.train.mining.graph import number_groups
from pipeline.train.mining.pair_file import PairFile, pairs_beside
from pipeline.types import FloatArray, Ranking
from pipeline.workflow.gallery import open_gallery
from pipeline.workflow.progress import Silent
from pipeline.workflow.training.adaptation import Material, choose_map, unit
from pipeline.workflow.training.groups_table import write_groups
from pipeline.workflow.training.mined_groups import MinedGroups, group_pairs
from pipeline.workflow.training.mining import MinedPairs, mine_pairs, way_of_matching

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("RELOOK_SHARED") or ROOT.parent / "shared") / "data"
PCA = 128
# Photos of a cluster of k-means, on average.
CLUSTER = 4
# Of the photos of Grocery one scale of 320 pixels is measured, as in docs/training.md.
ONE_SCALE = ("describe.image.size=320", "describe.globals.scales=[1.0]")
# Photos of a set that rerankers are measured on, at most: each query re-ranks 100 candidates.
RERANKED = 1000
Row = tuple[str, str]


@dataclass(frozen=True)
class Photos:
    """A set: photos to learn from, and those that query each other, as (path, label); settings of its indexes."""

    learn: list[Row]
    measured: dict[str, list[Row]]
    settings: tuple[str, ...] = ()


def main() -> None:
    """Print one table per set and measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["scenes", "landmarks"], choices=sorted(SETS))
    parser.add_argument("--third", action="store_true", help="a third of the photos that Grocery is learnt from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--network", action="store_true", help="also train the network from the groups, some minutes")
    parser.add_argument("--rerankers", nargs="+", choices=["elvis", "rrt", "ames"], help="train these from the groups")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    options = parser.parse_args()
    console = Console(width=150)
    for name in options.sets:
        photos = SETS[name](3 if options.third else 1)
        for table in (reranker_tables if options.rerankers else tables)(name, photos, options):
            console.print(table)


def tables(name: str, photos: Photos, options: argparse.Namespace) -> list[Table]:
    """One table per measurement of a set; rows are printed to the standard error as they are made."""
    work = options.work / f"{name}-third" if options.third else options.work / name
    config = indexed(work / "learn", photos.learn, (*photos.settings, *options.settings))
    mined = mine(config, work / "learn.safetensors")
    measured = {
        what: Measured(config if rows == photos.learn else indexed(work / what, rows, photos.settings))
        for what, rows in photos.measured.items()
    }
    found = {
        what: Table(title=f"{name}: learnt from {len(mined.place_of)} photos, {what}: {len(one.labels)} photos")
        for what, one in measured.items()
    }
    for table in found.values():
        table.title_justify = "left"
        for heading in ("learnt from", "pairs", "true", "groups", "pure", "taken", "mAP", "R@1", "difference in mAP"):
            table.add_column(heading, justify="left" if heading in ("learnt from", "taken") else "right")

    def add(cells: Sequence[str], maps: Sequence[Whitening | None]) -> None:
        for what, one in measured.items():
            row = [*cells, *one.cells(maps)]
            print(name, what, *row, sep=" | ", file=sys.stderr, flush=True)
            found[what].add_row(*row)

    add(["nothing", *[""] * 5], [None])
    pca = fit_pca(mined.vectors, min(PCA, len(mined.records) // 2), whiten=True, what="PCA")
    whitening = Whitening(pca.matrix.T, -(pca.mean @ pca.matrix))
    add([f"PCA-whitening to {pca.matrix.shape[1]}", *[""] * 5], [whitening])
    if options.network:
        for what, row in network_rows(work, config, mined, photos, measured).items():
            print(name, what, *row, sep=" | ", file=sys.stderr, flush=True)
            found[what].add_row(*row)
    for what in SOURCES:
        learnt = Learnt(what, mined, [record.label for record in mined.records], config, options.seeds)
        add([what, *learnt.cells], learnt.maps)
    return list(found.values())


def reranker_tables(name: str, photos: Photos, options: argparse.Namespace) -> list[Table]:
    """One table per measurement of a set, of rerankers that are trained from the groups."""
    work = options.work / f"{name}-third" if options.third else options.work / name
    config = indexed(work / "learn", photos.learn, (*photos.settings, *options.settings))
    mined = mine(config, work / "learn.safetensors")
    # Rerankers read local descriptors, at the scales of the global ones; the other rows read none.
    scales = [one.replace("globals", "locals") for one in photos.settings if "globals.scales" in one]
    settings = (*photos.settings, "describe.locals.count=50", *scales)
    learn = indexed(work / "learn-locals", photos.learn, settings).index
    measured = {
        what: learn
        if rows == photos.learn
        else indexed(work / f"{what}-locals", rows, (*settings, f"describe.fit_from={learn}")).index
        for what, rows in photos.measured.items()
        if len(rows) <= RERANKED
    }
    bench = Bench(work, learn, measured, (*settings, *options.settings), options.seeds)
    found = {what: new_table(f"{name}: rerankers, measured on {what}") for what in measured}

    def add(what: str, cells: Sequence[str]) -> None:
        print(name, what, *cells, sep=" | ", file=sys.stderr, flush=True)
        found[what].add_row(*cells)

    grouped = bench.grouped(mined.place_of, mined_groups(mined, config).groups.number)
    for reranker in options.rerankers:
        bench.rows(reranker, grouped, add)
    return list(found.values())


class Measured:
    """An index whose photos query each other."""

    def __init__(self, config: Config) -> None:
        with open_gallery(config) as gallery:
            records = list(gallery.index.records.values())
            self._vectors = gallery.globals([record.id for record in records])
        self.labels = [record.label for record in records]
        self._frozen = scores(self._vectors, self.labels)

    def cells(self, maps: Sequence[Whitening | None]) -> list[str]:
        """What maps of several seeds bring: mAP, R@1, and the difference."""
        seeds = [self._frozen if one is None else scores(unit(one.apply(self._vectors)), self.labels) for one in maps]
        return [*means(seeds), gain(self._frozen, seeds)]

    def against(self, other: Measured) -> list[str]:
        """What another describer brings on the same photos."""
        return [*means([other._frozen]), gain(self._frozen, [other._frozen])]


def network_rows(
    work: Path, config: Config, mined: MinedPairs, photos: Photos, measured: Mapping[str, Measured]
) -> dict[str, list[str]]:
    """The row of the whole network, trained from the groups, for each measurement."""
    checkpoint = trained(work, config, mined)
    settings = (*photos.settings, f"describe.checkpoint={checkpoint}")
    found = {}
    for what, one in measured.items():
        other = Measured(indexed(work / f"{what}-trained", photos.measured[what], settings))
        found[what] = ["train-global on the groups", *[""] * 5, *one.against(other)]
    return found


def trained(work: Path, config: Config, mined: MinedPairs) -> Path:
    """The checkpoint of `train-global` on the groups that `relook adapt --labels` writes."""
    out, groups = work / "trained.safetensors", mined_groups(mined, config).groups
    if out.exists():
        return out
    with open_gallery(config) as gallery:
        write_groups(work / "groups.csv", gallery.index, mined.place_of, groups.number)
    views = ("augment.size=224", "augment.views=3", f"augment.views_folder={work / 'views'}")
    settings = [f"train_global.{one}" for one in (*views, "validation=0", f"out={out}")]
    train_global(load_config(overrides=["catalog.outside=allow", *settings]), str(work / "groups.csv"))
    return out


class Learnt:
    """What is learnt from one kind of pairs, for each seed."""

    def __init__(
        self, what: str, mined: MinedPairs, labels: Sequence[str], config: Config, seeds: Sequence[int]
    ) -> None:
        self.what = what
        self.maps: list[Whitening | None] = []
        taken = []
        for seed in seeds:
            material = SOURCES[what](mined, labels, config, seed)
            chosen = choose_map(material, config.adapt, seed, Silent())
            self.maps.append(chosen.whitening)
            taken.append([trial.name for trial in chosen.trials if trial.taken][-1])
            for trial in chosen.trials:
                print(what, seed, trial, file=sys.stderr)
        groups = material.groups
        names = np.array(labels)
        true = (names[groups.pairs[:, 0]] == names[groups.pairs[:, 1]]) & (names[groups.pairs[:, 0]] != "")
        self.cells = [
            *(f"{len(groups.pairs):,}", f"{100 * true.mean():.1f} %", f"{groups.count:,}"),
            *(f"{100 * purity(groups, names):.1f} %", ", ".join(dict.fromkeys(taken))),
        ]


def purity(groups: Groups, names: np.ndarray) -> float:
    """Of the pairs of photos in one group, verified or not, the share that has one label."""
    same = total = 0
    for group in range(groups.count):
        own = names[groups.number == group]
        total += len(own) * (len(own) - 1)
        for name, count in zip(*np.unique(own, return_counts=True), strict=True):
            same += count * (count - 1) if name else 0
    return same / total


def verified(mined: MinedPairs, labels: Sequence[str], config: Config, seed: int) -> Material:
    """What `relook adapt` learns from."""
    return mined_groups(mined, config).material


def mined_groups(mined: MinedPairs, config: Config) -> MinedGroups:
    """The groups of verified pairs."""
    return group_pairs(mined, config.adapt)


def unverified(mined: MinedPairs, labels: Sequence[str], config: Config, seed: int) -> Material:
    """Each photo and its nearest one, where both say so: neighbours without geometry."""
    nearest = np.full(len(mined.records), -1)
    best = np.full(len(mined.records), -1.0)
    for (left, right), value in zip(mined.pairs.tolist(), mined.similarity.tolist(), strict=True):
        for row, other in ((left, right), (right, left)):
            if value > best[row]:
                nearest[row], best[row] = other, value
    chosen = [number for number, (a, b) in enumerate(mined.pairs.tolist()) if nearest[a] == b and nearest[b] == a]
    return alike(mined, mined.pairs[chosen])


def clusters(mined: MinedPairs, labels: Sequence[str], config: Config, seed: int) -> Material:
    """Pseudo-labels by k-means on descriptors alone."""
    from sklearn.cluster import KMeans

    count = max(2, len(mined.records) // CLUSTER)
    return alike(mined, inside(KMeans(count, random_state=seed, n_init=3).fit_predict(mined.vectors)))


def true_labels(mined: MinedPairs, labels: Sequence[str], config: Config, seed: int) -> Material:
    """The labels, for comparison."""
    names = np.array(labels)
    numbers = np.unique(names, return_inverse=True)[1]
    pairs = inside(numbers)
    return alike(mined, pairs[names[pairs[:, 0]] != ""])


def inside(numbers: np.ndarray) -> np.ndarray:
    """All pairs of rows with one number."""
    left, right = np.triu_indices(len(numbers), 1)
    same = numbers[left] == numbers[right]
    return np.stack([left[same], right[same]], axis=1).astype(np.int64)


def alike(mined: MinedPairs, pairs: np.ndarray) -> Material:
    """Material of pairs that all count the same."""
    none = [np.zeros(0, np.int64)] * len(mined.records)
    groups = Groups(number_groups(len(mined.records), pairs), pairs, np.full(len(pairs), 60.0))
    return Material(mined.vectors, groups, none)


SOURCES = {
    "verified pairs (relook adapt)": verified,
    "true labels": true_labels,
    "mutual nearest, unverified": unverified,
    f"k-means, {CLUSTER} photos a cluster": clusters,
}


def indexed(directory: Path, rows: Sequence[Row], settings: Sequence[str]) -> Config:
    """The configuration of an index of these photos, which is made where it is not there."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    manifest = directory.with_suffix(".csv")
    with manifest.open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label"), *rows])
    kept = ("describe.locals.count=0", "catalog.outside=allow", f"index={directory}")
    config = load_config(overrides=[*kept, *settings])
    extract(config, str(manifest), Bars(Console(stderr=True)))
    return config


def mine(config: Config, out: Path) -> MinedPairs:
    """Verified pairs of an index, kept beside `out`."""
    with open_gallery(config, partial="error") as gallery:
        file = PairFile(pairs_beside(out), way_of_matching(gallery, config))
        return mine_pairs(gallery, config, file, Bars(Console(stderr=True)))


def scores(vectors: FloatArray, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Values of each query: every labelled photo that has a positive queries all others."""
    ids = [f"{row:06}" for row in range(len(labels))]
    names = dict(zip(ids, labels, strict=True))
    queries = [row for row, label in enumerate(labels) if label and labels.count(label) > 1]
    rankings = []
    for row in queries:
        similarity = vectors @ vectors[row]
        order = [place for place in np.argsort(-similarity, kind="stable").tolist() if place != row]
        rankings.append(Ranking(ids[row], [ids[place] for place in order], similarity[order]))
    own = [labels[row] for row in queries]
    return dict(by_labels(rankings, own, names, [{ids[row]} for row in queries])[0].per_query)


def means(seeds: Sequence[dict[str, np.ndarray]]) -> list[str]:
    """mAP with its spread over seeds, and R@1, in percent."""
    each = [100 * one["mAP"].mean() for one in seeds]
    spread = f" ({np.std(each, ddof=1):.1f})" if len(each) > 1 else ""
    return [f"{np.mean(each):.1f}{spread}", f"{np.mean([100 * one['R@1'].mean() for one in seeds]):.1f}"]


def gain(frozen: dict[str, np.ndarray], seeds: Sequence[dict[str, np.ndarray]]) -> str:
    """The mean paired difference, and its standard error over queries."""
    difference = 100 * (np.mean([one["mAP"] for one in seeds], axis=0) - frozen["mAP"])
    return f"{difference.mean():+.1f} ±{difference.std(ddof=1) / len(difference) ** 0.5:.1f}"


def scenes(step: int) -> Photos:
    """The demo's validation photos."""
    folder = ROOT / "data" / "samples"
    with (folder / "manifest.csv").open() as stream:
        rows = [(str(folder / row["path"]), row["label"]) for row in csv.DictReader(stream) if row["split"] == "val"]
    return Photos(rows, {"themselves": rows})


def landmarks(step: int) -> Photos:
    """Places among holiday photos."""
    folder = SHARED / "landmarks"
    with (folder / "manifest.csv").open() as stream:
        rows = [(str(folder / row["path"]), row["label"]) for row in csv.DictReader(stream)]
    return Photos(rows, {"themselves": rows})


def grocery(step: int) -> Photos:
    """The train list, measured on `val` and on itself."""
    learn, val = grocery_list("train")[::step], grocery_list("val")
    return Photos(learn, {"val": val, "themselves": learn}, ONE_SCALE)


def unseen(step: int) -> Photos:
    """Classes that are not divisible by 3, measured on the others."""
    train, val = grocery_list("train"), grocery_list("val")
    seen = [row for row in train if int(row[1]) % 3]
    return Photos(seen[::step], {"other classes": [row for row in [*train, *val] if not int(row[1]) % 3]}, ONE_SCALE)


def grocery_list(name: str) -> list[Row]:
    """The photos of a published list and their fine labels."""
    lines = (SHARED / "grocery" / f"{name}.txt").read_text().splitlines()
    return [(str(SHARED / "grocery" / line.split(", ")[0]), line.split(", ")[1]) for line in lines if line.strip()]


SETS = {"scenes": scenes, "landmarks": landmarks, "grocery": grocery, "unseen": unseen}

if __name__ == "__main__":
    main()
