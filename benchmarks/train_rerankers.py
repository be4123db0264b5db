"""What each trained reranker adds to the global search: docs/results.md.

    python benchmarks/train_rerankers.py --work DIR --checkpoints DIR

On the frozen describer and on the one that `train_grocery.py` trained (its --work is --checkpoints here): train on
labelled photos, then new photos query each other, of classes of the training set, of other classes, and landmarks. Of
the other classes every fifth photo is kept, so that each query has few positives. Each reranker is compared with the
global search by its paired difference with a confidence interval of 95 % over queries. Indexes, checkpoints and
measurements in DIR are reused.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grocery import SHARED, write_manifest
from rich.console import Console
from rich.table import Table
from train_grocery import experiments

from pipeline.catalog import Catalog, load_catalog
from pipeline.config import Config, load_config
from pipeline.report import Bars
from pipeline.stages.evaluate import evaluate
from pipeline.stages.extract import extract
from pipeline.stages.train_rerank import train_rerank

# What an index holds, by name: one scale of 224 x 224 pixels, and what its rerankers read.
INDEXES: dict[str, list[str]] = {
    "parts": [
        "describe.locals.count=50",
        "describe.locals.scales=[1.0]",
        "describe.maps.levels=[0.5,1.0]",
        "describe.maps.stage=3",
        "describe.maps.dimension=128",
    ],
    "whole": ["describe.locals.count=50", "describe.locals.scales=[1.0]", "describe.locals.dimension=null"],
    "grid": ["describe.locals.kind=map", "describe.locals.count=49", "describe.locals.scales=[1.0]"],
}
# Reranker in the tables: registry name, index, and training settings; None: not trained, for comparison.
SHORT = ["train_rerank.epochs=4", "train_rerank.triplets=3200"]
CAUTIOUS = "train_rerank.weight_rule=cautious"
RERANKERS: dict[str, tuple[str, str, list[str] | None]] = {
    "superglobal, untrained": ("superglobal", "parts", None),
    "rrt": ("rrt", "parts", []),
    "ames": ("ames", "parts", SHORT),
    "ames, binarised": ("ames", "parts", [*SHORT, "train_rerank.ames.binarised=true"]),
    "ames, whole locals": ("ames", "whole", SHORT),
    "ames, bits stored": ("ames", "whole", [*SHORT, "train_rerank.ames.binarised=true"]),
    "elvis": ("elvis", "parts", [*SHORT, CAUTIOUS]),
    "elvis, whole locals": ("elvis", "whole", [*SHORT, CAUTIOUS]),
    "locore": ("locore", "parts", ["train_rerank.epochs=4", "train_rerank.triplets=320", "train_rerank.batch_size=8"]),
    "rrt_sop": ("rrt_sop", "grid", SHORT),
    "cvnet": ("cvnet", "parts", [*SHORT, "train_rerank.batch_size=32", "train_rerank.warmup=0.2"]),
}
# The teacher of each student.
TEACHERS = {"ames, binarised": "ames", "ames, bits stored": "ames, whole locals"}
# For these the index stores the checkpoint's projection: 50 x 128 bits, 800 bytes a photo.
STORED = ("ames, bits stored",)


def main() -> None:
    """Extract, train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="where indexes, checkpoints and measurements go")
    parser.add_argument("--checkpoints", type=Path, required=True, help="the --work of train_grocery.py")
    parser.add_argument("--only", nargs="+", default=list(RERANKERS), choices=list(RERANKERS), metavar="RERANKER")
    parser.add_argument("--describers", nargs="+", default=["frozen", "CVNet"], help="frozen, or its recipe")
    parser.add_argument("--questions", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    console, reporter = Console(width=150), Bars(Console(stderr=True))
    for experiment, train, queries, trained_for in [setups()[number] for number in arguments.questions]:
        for describer in arguments.describers:
            checkpoint = arguments.checkpoints / f"{trained_for} - {describer} - 224 - 0.safetensors"
            bench = Bench(arguments.work / experiment / describer, reporter, arguments.seed)
            bench.describe = [] if describer == "frozen" else [f"describe.checkpoint={json.dumps(str(checkpoint))}"]
            folder = bench.folder
            folder.mkdir(parents=True, exist_ok=True)
            bench.train = write_manifest(folder / "train.csv", train)
            landmarks = load_catalog(str(SHARED / "landmarks" / "manifest.csv"))
            manifests = {
                experiment: write_manifest(folder / "queries.csv", queries),
                "landmarks": write_manifest(folder / "landmarks.csv", landmarks),
            }
            rows = {
                name: {title: bench.row(name, file) for title, file in manifests.items()} for name in arguments.only
            }
            for title in manifests:
                made = {name: found[title] for name, found in rows.items()}
                console.print(table(f"{title}, {describer} describer", made))


def setups() -> list[tuple[str, Catalog, Catalog, str]]:
    """Name, training photos of the rerankers, photos that query each other, and the experiment of the describer.

    In the last one rerankers are trained on train photos of labels that are not in the describer's training set.
    """
    (same, train, val), (others, seen, unseen) = experiments()
    known = {record.label for record in seen}
    apart = Catalog(train.root, tuple(record for record in train if record.label not in known))
    return [
        (same, train, val, same),
        (others, seen, Catalog(unseen.root, unseen.records[::5]), others),
        ("describer and reranker trained on different labels", apart, val, others),
    ]


class Bench:
    """One describer and the rerankers that are trained on its descriptors.

    Attributes:
        folder: where its files go.
        describe: overrides that choose the describer.
        train: the manifest of the training photos.
    """

    def __init__(self, folder: Path, reporter: Any, seed: int) -> None:
        self.folder, self._reporter, self._seed = folder, reporter, seed
        self.describe: list[str] = []
        self.train = Path()

    def row(self, name: str, photos: Path) -> Mapping[str, Any]:
        """The `evaluate` document of a reranker on the photos of a manifest, kept in a file."""
        note = self.folder / f"{name} - {photos.stem} - {self._seed}.json"
        if note.exists():
            found: Mapping[str, Any] = json.loads(note.read_text())
            return found
        registry, kind, settings = RERANKERS[name]
        chosen, seconds, stored = [f"rerank.chain=[{registry}]"], 0.0, []
        if settings is not None:
            checkpoint, seconds = self._trained(name, settings)
            chosen.append(f"rerank.{registry}.checkpoint={json.dumps(str(checkpoint))}")
            if name in STORED:
                stored = [f"describe.locals.projection={json.dumps(str(checkpoint))}", "describe.locals.geometry=false"]
        config = self._config(kind, self._extracted(kind, photos, *stored), *stored, *chosen)
        document = {**evaluate(config, str(photos), None, self._reporter).to_json(), "cpu_seconds": seconds}
        note.write_text(json.dumps(document))
        return document

    def _trained(self, name: str, settings: list[str]) -> tuple[Path, float]:
        """The checkpoint, and the CPU-seconds that its training took."""
        registry, kind, _ = RERANKERS[name]
        out = self.folder / f"{name} - {self._seed}.safetensors"
        note = out.with_suffix(".json")
        if not note.exists():
            index = self._extracted(kind, self.train)
            more = list(settings)
            if "train_rerank.ames.binarised=true" in settings:
                more.append(f"train_rerank.ames.teacher={json.dumps(str(self._trained(TEACHERS[name], SHORT)[0]))}")
            before = cpu_seconds()
            config = self._config(
                kind,
                index,
                f"train_rerank.reranker={registry}",
                f"train_rerank.out={json.dumps(str(out))}",
                f"seed={self._seed}",
                *more,
            )
            train_rerank(config, self._reporter)
            note.write_text(json.dumps({"cpu_seconds": cpu_seconds() - before}))
        seconds: float = json.loads(note.read_text())["cpu_seconds"]
        return out, seconds

    def _extracted(self, kind: str, manifest: Path, *stored: str) -> Path:
        """An index of the photos of a manifest; projections are fitted on the training photos."""
        index = self.folder / f"{kind}{', stored' if stored else ''} - {manifest.stem}"
        if not (index / "index.json").exists():
            first = [] if manifest == self.train or kind == "whole" else [self._fit_from(kind)]
            extract(self._config(kind, index, *stored, *first), str(manifest), self._reporter)
        return index

    def _fit_from(self, kind: str) -> str:
        return f"describe.fit_from={json.dumps(str(self._extracted(kind, self.train)))}"

    def _config(self, kind: str, index: Path, *more: str) -> Config:
        plain = ["describe.image.size=224", "describe.globals.scales=[1.0]"]
        return load_config(
            overrides=[
                f"index={json.dumps(str(index))}",
                "catalog.outside=allow",
                *plain,
                *INDEXES[kind],
                *self.describe,
                *more,
            ]
        )


def cpu_seconds() -> float:
    """Used by this process so far, on all cores."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """Global search first, then each reranker with its paired difference and its confidence interval."""
    first = next(iter(rows.values()))
    made = Table(title=f"{title}: {first['queries']} queries, gallery of {first['gallery']}", title_justify="left")
    for heading in ("reranker", "mAP", "R@1", "mAP difference, 95 %", "R@1 difference, 95 %", "ms a query", "CPU s"):
        made.add_column(heading, justify="left" if heading == "reranker" else "right")
    made.add_row("none", f"{first['global']['mAP']:.2f}", f"{first['global']['R@1']:.2f}", "", "", "", "")
    for name, row in rows.items():
        change, metrics = row["difference"], row["reranked"]
        made.add_row(
            name,
            f"{metrics['mAP']:.2f}",
            f"{metrics['R@1']:.2f}",
            *(f"{change[metric]:+.2f} ± {1.96 * change[f'{metric}_se']:.2f}" for metric in ("mAP", "R@1")),
            f"{1000 * row['seconds']['rerank'] / row['queries']:.0f}",
            f"{row['cpu_seconds']:.0f}" if row["cpu_seconds"] else "",
        )
    return made


if __name__ == "__main__":
    main()
