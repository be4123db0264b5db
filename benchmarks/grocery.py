"""Global search, SuperGlobal and the Reranking Transformer on real photos: the table of the README and docs/results.md.

    python benchmarks/grocery.py --work DIR

Grocery Store photos (train, val and the 81 iconic studio photos) and the landmarks, through the same functions as the
command line. RRT is trained on the train list alone; its epoch and weight are chosen on a part of that list.
Projections are fitted on the train list and used for every other collection. Indexes and checkpoints in DIR are reused.
Training photos of RRT are not queries of its rows.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.catalog import Catalog, load_catalog
from pipeline.config import Config, load_config
from pipeline.report import Bars
from pipeline.stages.evaluate import evaluate
from pipeline.stages.extract import extract
from pipeline.stages.train_rerank import train_rerank

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("RELOOK_SHARED", ROOT.parent / "shared")) / "data"
PUBLISHED = ROOT / "configs" / "superglobal_iccv2023.yaml"

# (index, ground truth, queries, name of the protocol)
PROTOCOLS = (
    ("val", "val", None, "val self"),
    ("train", "train", None, "train self"),
    ("train", "fifth", None, "train self, every fifth"),
    ("train", "train", "val", "val queries train (cross)"),
    ("val", "val", "iconic", "iconic queries val"),
    ("train", "train", "iconic", "iconic queries train"),
    ("landmarks", "landmarks", None, "landmarks self"),
    ("landmarks", "landmarks", "crop", "landmarks crop"),
)


def main() -> None:
    """Extract, train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="where indexes and the checkpoint go")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="trainings of RRT")
    arguments = parser.parse_args()
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    console, reporter = Console(width=150), Bars(Console(stderr=True))
    manifests = write_manifests(work)

    def config(index: str, *more: str, file: Path | None = None) -> Config:
        return load_config(file, [f"index={work / index}", "catalog.outside=allow", *arguments.overrides, *more])

    for name in ("train", "val", "landmarks"):
        more = () if name == "train" else (f"describe.fit_from={work / 'train'}",)
        result = extract(config(name, *more), str(manifests[name]), reporter)
        console.print(f"extract {name}: {result.images} images, {result.seconds} s, {result.failed} failed")
    settings: dict[str, tuple[Path | None, list[str]]] = {
        "superglobal as published": (PUBLISHED, []),
        "superglobal": (None, ["rerank.chain=[superglobal]"]),
    }
    for seed in arguments.seeds:
        out = work / f"rrt-{seed}.safetensors"
        settings[f"rrt, seed {seed}"] = (None, ["rerank.chain=[rrt]", f"rerank.rrt.checkpoint={out}"])
        if out.exists():
            continue
        before = resource.getrusage(resource.RUSAGE_SELF)
        trained = train_rerank(config("train", f"train_rerank.out={out}", f"seed={seed}"), reporter)
        after = resource.getrusage(resource.RUSAGE_SELF)
        minutes = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 60
        console.print(f"train-rerank seed {seed}: {minutes:.1f} CPU-minutes, best {trained.best}")
    for index, truth, queries, title in PROTOCOLS:
        query_file = str(manifests[queries]) if queries else None
        rows = {
            name: evaluate(config(index, *more, file=file), str(manifests[truth]), query_file, reporter).to_json()
            for name, (file, more) in settings.items()
            if queries or index != "train" or not name.startswith("rrt")
        }
        console.print(table(title, rows))


def write_manifests(work: Path) -> dict[str, Path]:
    """Manifests with absolute paths, so that each collection is an index of its own."""
    grocery = load_catalog(f"grocery:{SHARED / 'grocery'}")
    landmarks = load_catalog(str(SHARED / "landmarks" / "manifest.csv"))
    crop = load_catalog(str(SHARED / "landmarks" / "queries.csv"))
    train = grocery.select("train")
    parts = {
        "train": train,
        "fifth": Catalog(train.root, train.records[::5]),
        "val": grocery.select("val"),
        "iconic": grocery.select("iconic"),
        "landmarks": landmarks,
        "crop": crop,
    }
    return {name: write_manifest(work / f"{name}.csv", part) for name, part in parts.items()}


def write_manifest(file: Path, catalog: Catalog) -> Path:
    """One CSV manifest of a catalog."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "split", "bbox"])
        for record in catalog:
            box = " ".join(map(str, record.bbox)) if record.bbox else ""
            writer.writerow([catalog.file(record), record.label, record.split, box])
    return file


def table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """Global search first, then each reranker with its paired difference and standard error."""
    first = next(iter(rows.values()))
    made = Table(title=f"{title}: {first['queries']} queries, gallery of {first['gallery']}", title_justify="left")
    for heading in ("reranker", "mAP", "R@1", "mAP difference", "R@1 difference", "R@5", "R@10", "ms a query"):
        made.add_column(heading, justify="left" if heading == "reranker" else "right")
    metrics = first["global"]
    cost = 1000 * first["seconds"]["search"] / first["queries"]
    made.add_row("none", *cells(metrics), "", "", f"{metrics['R@5']:.2f}", f"{metrics['R@10']:.2f}", f"{cost:.1f}")
    for name, row in rows.items():
        change, metrics = row["difference"], row["reranked"]
        made.add_row(
            name,
            *cells(metrics),
            *(f"{change[metric]:+.2f} ± {change[f'{metric}_se']:.2f}" for metric in ("mAP", "R@1")),
            f"{metrics['R@5']:.2f}",
            f"{metrics['R@10']:.2f}",
            f"{1000 * row['seconds']['rerank'] / row['queries']:.1f}",
        )
    return made


def cells(metrics: Mapping[str, float]) -> tuple[str, str]:
    """mAP and R@1."""
    return f"{metrics['mAP']:.2f}", f"{metrics['R@1']:.2f}"


if __name__ == "__main__":
    main()
