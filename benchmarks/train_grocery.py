"""What training a global descriptor brings on real photos: docs/training.md and docs/results.md.

    python benchmarks/train_grocery.py --work DIR

Frozen descriptors, a closed-form control (LDA on the frozen descriptors, no back-propagation), and the recipes of
`train-global`, compared on the Grocery photos, with three seeds. Two experiments: classes of the training set (train on
the train list, `val` queries itself), and other classes (train on train photos whose label is not divisible by 3; the
photos of train and val whose label is query each other). No epoch is chosen on reported figures: the last one is
measured. Checkpoints, cached views and measurements in DIR are reused. `--rerank superglobal` adds rows of re-ranked
lists, with the paired difference to the global search.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from grocery import SHARED, write_manifest
from rich.console import Console
from rich.table import Table

from pipeline.catalog import Catalog, load_catalog
from pipeline.config import load_config
from pipeline.describe import Described, ReadOptions, describe_stream, load_describer
from pipeline.evaluate import by_labels
from pipeline.report import Bars
from pipeline.rerank import RerankStep, apply_chain
from pipeline.stages.train_global import train_global
from pipeline.types import Candidates, Description, FloatArray, Ranking
from pipeline.workflow.in_memory_gallery import InMemoryGallery
from pipeline.workflow.model_loading import open_chain

# Name, a factor on the epochs, and what differs from the defaults. A step of CVNet's recipe takes about a half longer
# than one without its momentum encoder: with a half more epochs the others take the same time.
RECIPES: dict[str, tuple[float, list[str]]] = {
    "CVNet": (1.0, []),
    "CVNet, random head": (1.0, ["head_start=random", "head_rate=10"]),
    "CVNet without its momentum branch": (1.5, ["contrast.weight=0"]),
    "ArcFace": (1.5, ["classification.name=arcface", "classification.margin=0.3", "contrast.weight=0"]),
}
# Of an epoch with larger pictures, after the others. Its few steps would be spent on filling the queue of the contrast.
LAST_EPOCH = ["epochs=1", "learning_rate=0.0001", "augment.views=3", "contrast.weight=0"]
# Of the LDA control, as measured best on these photos.
DIMENSIONS, SHRINKAGE = 80, 0.3


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="where checkpoints and measurements go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=224, help="pixels, area of the square that is described")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0], help="that are described")
    parser.add_argument("--questions", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", default=list(RECIPES), choices=list(RECIPES), metavar="RECIPE")
    parser.add_argument("--rerank", nargs="+", default=[], metavar="RERANKER", help="of global descriptors alone")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    console = Console(width=150)
    for experiment, train, queries in [experiments()[number] for number in arguments.questions]:
        catalog = load_catalog(str(write_manifest(work / f"{experiment}.csv", train)), outside="allow")
        frozen = Vectors(arguments.size, arguments.scales, None)
        settings = load_config(overrides=[f"rerank.chain={json.dumps(arguments.rerank)}", *arguments.overrides])
        chain = open_chain(settings, frozen.card)
        rows = Rows(experiment, queries, f"{arguments.size} px, scales {arguments.scales}", chain)
        rows.add("frozen", [frozen.of(queries)], 0.0)
        rows.add("LDA on frozen", [lda(frozen.of(train), train, frozen.of(queries))], 0.0)
        for name in arguments.only:
            made = [
                trained(work, experiment, name, seed, arguments.size, arguments.overrides, Bars(Console(stderr=True)))
                for seed in arguments.seeds
            ]
            vectors = [Vectors(arguments.size, arguments.scales, path).of(queries) for path, _ in made]
            rows.add(name, vectors, float(np.mean([seconds for _, seconds in made])))
        console.print(rows.table(len(catalog)))


def experiments() -> list[tuple[str, Catalog, Catalog]]:
    """Name, training photos, and photos that query each other."""
    all_photos = load_catalog(f"grocery:{SHARED / 'grocery'}")
    train, val = all_photos.select("train"), all_photos.select("val")
    both = Catalog(all_photos.root, (*train.records, *val.records))
    number = label_numbers()
    seen = Catalog(train.root, tuple(r for r in train if number[r.path] % 3))
    unseen = Catalog(train.root, tuple(r for r in both if number[r.path] % 3 == 0))
    return [("classes of the training set", train, val), ("other classes", seen, unseen)]


def label_numbers() -> dict[str, int]:
    """The fine label of each photo as the published lists number it."""
    lines = [
        line.split(", ")
        for name in ("train", "val")
        for line in (SHARED / "grocery" / f"{name}.txt").read_text().splitlines()
        if line.strip()
    ]
    return {path: int(fine) for path, fine, _ in lines}


def trained(
    work: Path, experiment: str, name: str, seed: int, size: int, overrides: Sequence[str], reporter: Any
) -> tuple[Path, float]:
    """The checkpoint of a recipe, and the CPU-seconds that its training took (kept beside it)."""
    longer, settings = RECIPES[name]
    out = work / f"{experiment} - {name} - {size} - {seed}.safetensors"
    epochs = round(load_config(overrides=list(overrides)).train_global.epochs * longer)
    given = [f"train_global.{one}" for one in (f"augment.size={size}", "augment.views=8", *settings)]
    return _timed(out, work, experiment, seed, [*given, *overrides, f"train_global.epochs={epochs}"], reporter)


def trained_on(
    work: Path, experiment: str, name: str, seed: int, size: int, larger: int, overrides: Sequence[str], reporter: Any
) -> tuple[Path, float]:
    """`trained`, then a last epoch with pictures of `larger` pixels; the CPU-seconds of both."""
    start, before = trained(work, experiment, name, seed, size, overrides, reporter)
    out = work / f"{experiment} - {name} - {size}, {larger} - {seed}.safetensors"
    given = [f"train_global.{one}" for one in (f"augment.size={larger}", *RECIPES[name][1], *LAST_EPOCH)]
    settings = [f"describe.checkpoint={json.dumps(str(start))}", *given]
    path, seconds = _timed(out, work, experiment, seed, settings, reporter)
    return path, before + seconds


def _timed(
    out: Path, work: Path, experiment: str, seed: int, settings: Sequence[str], reporter: Any
) -> tuple[Path, float]:
    """A checkpoint, trained where it is missing, and the CPU-seconds of its training."""
    note = out.with_suffix(".json")
    if out.exists() and note.exists():
        return out, json.loads(note.read_text())["seconds"]
    given = [
        "catalog.outside=allow",
        "train_global.validation=0",
        f"train_global.augment.views_folder={work / 'views'}",
        f"train_global.out={json.dumps(str(out))}",
        f"seed={seed}",
    ]
    before = cpu_seconds()
    train_global(load_config(overrides=[*given, *settings]), str(work / f"{experiment}.csv"), reporter)
    seconds = cpu_seconds() - before
    note.write_text(json.dumps({"seconds": seconds}))
    return out, seconds


def cpu_seconds() -> float:
    """Used by this process so far, on all cores."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Vectors:
    """Describes photos with one describer; each photo once."""

    def __init__(self, size: int, scales: Sequence[float], checkpoint: Path | None) -> None:
        self._describer = load_describer(
            "efficientnet_lite0",
            checkpoint,
            image={"size": size},
            globals={"scales": tuple(scales)},
            locals={"count": 0},
        )
        self._describer.use_runtime("onnxruntime")
        self.card = self._describer.card
        self._known: dict[str, FloatArray] = {}

    def of(self, catalog: Catalog) -> FloatArray:
        """[N, D] in the catalog's order."""
        missing = [record for record in catalog if record.path not in self._known]
        reading = ReadOptions(2, os.cpu_count() or 1, os.cpu_count() or 1, 10**8, 10**9)
        for item in describe_stream(self._describer, missing, catalog.file, reading):
            assert isinstance(item, Described), item
            self._known[item.record.path] = item.description.vector
        return np.stack([self._known[record.path] for record in catalog])


class Rows:
    """The table of one experiment; with a chain of rerankers every descriptor has a second row."""

    def __init__(self, experiment: str, queries: Catalog, described: str, chain: Sequence[RerankStep]) -> None:
        self._experiment, self._queries, self._described, self._chain = experiment, queries, described, chain
        self._rows: list[list[str]] = []

    def add(self, name: str, seeds: Sequence[FloatArray], seconds: float) -> None:
        """Its rows: means over seeds; beside mAP the standard error over queries, and the spread over seeds."""
        whole, fifth = self._measured(seeds, ())
        self._add(name, whole, fifth, "", f"{seconds:.0f}" if seconds else "")
        if self._chain:
            again, fifth = self._measured(seeds, self._chain)
            gains = [
                np.mean([after[metric] - before[metric] for before, after in zip(whole, again, strict=True)], axis=0)
                for metric in ("mAP", "R@1")
            ]
            gain = " / ".join(f"{100 * d.mean():+.2f} ± {100 * d.std(ddof=1) / len(d) ** 0.5:.2f}" for d in gains)
            self._add(", ".join([name, *(step.name for step in self._chain)]), again, fifth, gain, "")

    def _measured(self, seeds: Sequence[FloatArray], chain: Sequence[RerankStep]) -> list[list[dict[str, Any]]]:
        """Values of each seed's queries, of all photos and of every fifth."""
        every_fifth = Catalog(self._queries.root, self._queries.records[::5])
        whole = [scores(vectors, self._queries, chain) for vectors in seeds]
        return [whole, [scores(vectors[::5], every_fifth, chain) for vectors in seeds]]

    def _add(
        self, name: str, whole: list[dict[str, Any]], fifth: list[dict[str, Any]], gain: str, seconds: str
    ) -> None:
        mean = np.mean([one["mAP"] for one in whole], axis=0)
        each = [100 * one["mAP"].mean() for one in whole]
        self._rows.append(
            [
                name,
                f"{100 * mean.mean():.2f} ± {100 * mean.std(ddof=1) / len(mean) ** 0.5:.2f}",
                f"{np.std(each, ddof=1):.2f}" if len(each) > 1 else "",
                *(f"{100 * np.mean([one['R@1'].mean() for one in found]):.2f}" for found in (whole, fifth)),
                f"{100 * np.mean([one['mAP'].mean() for one in fifth]):.2f}",
                gain,
                seconds,
            ]
        )

    def table(self, trained_on: int) -> Table:
        """For printing."""
        photos = f"{trained_on} training photos, {len(self._queries)} query each other"
        title = f"{self._experiment}: {photos}, {self._described}"
        table = Table(title=title, title_justify="left")
        fifth = ("R@1, every fifth", "mAP, every fifth")
        headings = ("descriptor", "mAP", "of seeds", "R@1", *fifth, "mAP / R@1 to the global search", "CPU s")
        for heading in headings:
            table.add_column(heading, justify="left" if heading == "descriptor" else "right")
        for row in self._rows:
            table.add_row(*row)
        return table


def scores(vectors: FloatArray, catalog: Catalog, chain: Sequence[RerankStep] = ()) -> dict[str, Any]:
    """Values of each query, in [0, 1]: every photo queries the others of its label."""
    labels = {record.id: record.label for record in catalog}
    rankings = ranked(vectors, catalog, chain)
    return dict(by_labels(rankings, list(labels.values()), labels, [{name} for name in labels])[0].per_query)


def ranked(vectors: FloatArray, catalog: Catalog, chain: Sequence[RerankStep] = (), every: int = 1) -> list[Ranking]:
    """The list of each `every`-th photo: all others, by the cosines of `vectors` [N, D], and re-ranked."""
    ids = [record.id for record in catalog]
    described = [Description(vector) for vector in vectors]
    gallery = InMemoryGallery(ids, described)
    found = gallery.query(vectors[::every], len(ids))
    queries = ids[::every]
    others = [(np.array(names) != own, names, values) for own, (names, values) in zip(queries, found, strict=True)]
    candidates = Candidates(
        queries,
        [np.array(names)[kept].tolist() for kept, names, _ in others],
        [values[kept] for kept, _, values in others],
    )
    return apply_chain(chain, described[::every], candidates, gallery)


def lda(training: FloatArray, catalog: Catalog, queries: FloatArray) -> FloatArray:
    """`queries` projected by a linear discriminant analysis of the training vectors, rows of unit length."""
    labels = np.array([record.label for record in catalog])
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    centre = training.astype(np.float64).mean(axis=0)
    centred = training - centre
    means = np.stack([centred[own].mean(axis=0) for own in rows])
    rest = np.concatenate([centred[own] - mean for own, mean in zip(rows, means, strict=True)])
    within = rest.T @ rest / len(rest)
    within = (1 - SHRINKAGE) * within + SHRINKAGE * np.trace(within) / len(within) * np.eye(len(within))
    variances, axes = np.linalg.eigh(within)
    whiten = axes / np.sqrt(variances)
    _, directions = np.linalg.eigh((means @ whiten).T @ (means @ whiten))
    projected = (queries - centre) @ whiten @ directions[:, ::-1][:, : min(DIMENSIONS, len(means) - 1)]
    return np.asarray(projected / np.linalg.norm(projected, axis=1, keepdims=True), dtype=np.float32)


if __name__ == "__main__":
    main()
