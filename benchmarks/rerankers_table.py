"""Every reranker on every protocol with the default describer: the table of docs/results.md.

    python benchmarks/rerankers_table.py --work DIR

The sample photos' instances that no training sees, the landmarks (whole photos, and cropped queries), and the Grocery
Store photos (`val`, and its studio photos as queries; `--protocol train_self` and others for the train list).
Indexes in DIR are reused. Trained rerankers are measured where a checkpoint is given, with `--checkpoint rrt=FILE`, or
with `--train rrt ames elvis locore`: they learn from the sample photos' other instances, and every index then has the
samples' projection of local descriptors. Each table is printed as soon as its rows are measured; `--json FILE` keeps
the documents of all of them. `--every N` takes each N-th query, from the first one, and leaves the gallery whole: for
rerankers that take seconds a query.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from grocery import PUBLISHED, ROOT, SHARED, write_manifests
from rich.console import Console

from pipeline.config import load_config
from pipeline.config.loading import with_values
from pipeline.evaluate import paired_difference
from pipeline.report import Bars
from pipeline.rerank import RerankStep
from pipeline.stages.extract import extract
from pipeline.stages.train_rerank import train_rerank
from pipeline.workflow.evaluation.measurement import measure
from pipeline.workflow.evaluation.query_sets import EvaluationQueries, Groups, open_queries
from pipeline.workflow.gallery import open_gallery
from pipeline.workflow.queries import Queries

_FITTED = "describe.fit_from="
VERIFIED = ["rerank.alpha_qe.neighbours=matching", "rerank.alpha_qe.alpha=1"]

# Name of a row: chain and settings.
CHAINS: dict[str, tuple[str, list[str]]] = {
    "superglobal as published": ("superglobal", []),
    "superglobal": ("superglobal", []),
    "average_qe": ("average_qe", []),
    "alpha_qe": ("alpha_qe", []),
    "dba": ("dba", []),
    "dba, alpha_qe": ("dba,alpha_qe", []),
    "k_reciprocal": ("k_reciprocal", []),
    "diffusion": ("diffusion", []),
    "matching": ("matching", []),
    "matching, alpha_qe of verified": ("matching,alpha_qe", VERIFIED),
    "superglobal, matching": ("superglobal,matching", []),
    "dba, matching": ("dba,matching", []),
}
TRAINED = ("rrt", "rrt_sop", "ames", "cvnet", "elvis", "locore")
# Of `--train`: those that read the default descriptors, and their settings.
SHORT = ["train_rerank.epochs=4", "train_rerank.triplets=1600", "train_rerank.split=train"]
LISTS = ["train_rerank.batch_size=8", "train_rerank.triplets=320"]
LEARNT: dict[str, list[str]] = {"rrt": SHORT, "ames": SHORT, "elvis": SHORT, "locore": [*SHORT, *LISTS]}

# Name: index, photos that are indexed, ground truth, queries, split. Photos are names of manifests in DIR.
PROTOCOLS: dict[str, tuple[str, str, str, str | None, str | None]] = {
    "samples": ("samples", "samples", "samples", None, "val"),
    "landmarks": ("landmarks", "landmarks", "landmarks", None, None),
    "landmarks_crop": ("landmarks", "landmarks", "landmarks", "crop", None),
    "val_self": ("val", "val", "val", None, None),
    "val_iconic": ("val", "val", "val", "iconic", None),
    "train_self": ("train", "train", "train", None, None),
    "train_cross": ("train", "train", "train", "val", None),
    "train_iconic": ("train", "train", "train", "iconic", None),
    "train_fifth": ("train", "train", "fifth", None, None),
}


class EveryNth(EvaluationQueries):
    """Each N-th query of a query set, from the first one, in the whole gallery.

    Query n here is query n * N there, so it has the results that it has among all queries. Descriptions are kept, so
    that all chains read the same ones.
    """

    def __init__(self, whole: EvaluationQueries, every: int) -> None:
        self._whole, self._every = whole, every
        self._described: dict[int, Queries] = {}
        self.records, self.stored = whole.records[::every], whole.stored
        self.protocol, self.size, self.failed = whole.protocol, whole.size, whole.failed
        self.outside, self.where, self.ignored = whole.outside, whole.where, whole.ignored

    def file(self, number: int) -> str:
        """See `EvaluationQueries.file`."""
        return self._whole.file(number * self._every)

    def groups(self, number: int) -> Groups:
        """See `EvaluationQueries.groups`."""
        return self._whole.groups(number * self._every)

    def labels(self, number: int) -> Collection[str]:
        """See `EvaluationQueries.labels`."""
        return self._whole.labels(number * self._every)

    def excluded(self, number: int) -> Collection[str]:
        """See `EvaluationQueries.excluded`."""
        return self._whole.excluded(number * self._every)

    def describe(self, rows: slice) -> Queries:
        """See `EvaluationQueries.describe`."""
        if rows.start not in self._described:
            wanted = slice(rows.start * self._every, rows.stop * self._every, self._every)
            self._described[rows.start] = self._whole.describe(wanted)
        return self._described[rows.start]


def main() -> None:
    """Extract, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="where indexes and manifests go")
    parser.add_argument("--protocol", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS)[:5])
    parser.add_argument("--row", nargs="+", choices=CHAINS, default=list(CHAINS), help="untrained rerankers")
    parser.add_argument("--checkpoint", nargs="+", default=[], metavar="NAME=FILE", help="trained rerankers")
    parser.add_argument("--train", nargs="+", default=[], choices=LEARNT, help="trained here on the sample photos")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each N-th query; the gallery stays whole")
    parser.add_argument("--json", type=Path, help="where the documents of all rows are written")
    arguments = parser.parse_args()
    if arguments.every < 1:
        parser.error(f"argument --every: {arguments.every} must be at least 1")
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    manifests = {**write_manifests(work), "samples": ROOT / "data" / "samples" / "manifest.csv"}
    manifests["landmarks"] = SHARED / "landmarks" / "manifest.csv"
    overrides = list(arguments.overrides)
    files = [f"{name}={learnt(work, name, overrides)}" for name in arguments.train]
    if arguments.train:
        overrides.append(f"describe.fit_from={json.dumps(str(work / 'samples'))}")
    chains = {name: CHAINS[name] for name in arguments.row} | _trained([*arguments.checkpoint, *files])
    documents: dict[str, dict[str, Any]] = {}
    for protocol in arguments.protocol:
        documents[protocol] = measure_all(work, manifests, protocol, chains, overrides, arguments.every)
        print(table(protocol, documents[protocol]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(documents, indent=1), encoding="utf-8")


def measure_all(
    work: Path,
    manifests: Mapping[str, Path],
    protocol: str,
    chains: Mapping[str, tuple[str, list[str]]],
    overrides: Sequence[str],
    every: int = 1,
) -> dict[str, Any]:
    """Metrics, paired differences and seconds of each chain, by its row's name, of each `every`-th query."""
    index, photos, truth, asked, split = PROTOCOLS[protocol]
    if index == "samples":
        overrides = [text for text in overrides if not text.startswith(_FITTED)]
    elif any(text.startswith(_FITTED) for text in overrides):
        index = f"{index} as samples"
    base = [f"index={work / index}", "catalog.outside=allow", *overrides]
    reporter = Bars(Console(stderr=True))
    if not (work / index / "index.json").exists():
        extract(load_config(None, base), str(manifests[photos]), reporter)
    steps: dict[str, list[RerankStep]] = {}
    for name, (chain, settings) in chains.items():
        config = load_config(PUBLISHED if name.endswith("as published") else None, [*base, *settings])
        with open_gallery(config) as opened:
            steps[name] = opened.chain(chain)
    config = load_config(None, base)
    config = with_values(config, {"evaluate.split": split} if split else {}, protocol)
    documents = {}
    with open_gallery(config) as gallery:
        needs = {need for chain in steps.values() for step in chain for need in step.reranker.needs}
        whole = open_queries(config, gallery, needs, str(manifests[truth]), asked and str(manifests[asked]))
        query_set = EveryNth(whole, every)
        for name, chain in steps.items():
            found = measure(gallery, [chain], query_set, reporter)
            documents[name] = {
                "queries": len(found.numbers) - found.before.unscored,
                "gallery": query_set.size,
                "global": found.before.summary(),
                "reranked": found.after[0].summary(),
                "difference": paired_difference(found.before, found.after[0]),
                "seconds": dict(found.seconds),
            }
    return documents


def learnt(work: Path, name: str, overrides: Sequence[str]) -> Path:
    """The checkpoint of a reranker that was trained on the sample photos' other instances; kept in DIR."""
    out, reporter = work / f"{name}.safetensors", Bars(Console(stderr=True))
    if not out.exists():
        base = [f"index={work / 'samples'}", "catalog.outside=allow", *overrides]
        if not (work / "samples" / "index.json").exists():
            extract(load_config(None, base), str(ROOT / "data" / "samples" / "manifest.csv"), reporter)
        chosen = [f"train_rerank.reranker={name}", f"train_rerank.out={json.dumps(str(out))}", *LEARNT[name]]
        train_rerank(load_config(None, [*base, *chosen]), reporter)
    return out


def table(protocol: str, documents: Mapping[str, Any]) -> str:
    """Markdown: the global search first, then each chain with its paired difference and standard error."""
    first = next(iter(documents.values()))
    base, seconds = first["global"], first["seconds"]
    lines = [
        f"**{protocol}** ({first['queries']} queries, gallery of {first['gallery']})\n",
        "| reranker | mAP | R@1 | mAP difference | R@1 difference | ms a query |\n|---|---|---|---|---|---|",
        f"| none | {base['mAP']:.2f} | {base['R@1']:.2f} | | | {1000 * seconds['search'] / first['queries']:.1f} |",
    ]
    for name, row in documents.items():
        found, change = row["reranked"], row["difference"]
        cells = [f"{found['mAP']:.2f}", f"{found['R@1']:.2f}"]
        cells += [f"{change[key]:+.2f} ± {change[f'{key}_se']:.2f}" for key in ("mAP", "R@1")]
        cells.append(f"{1000 * row['seconds']['rerank'] / row['queries']:.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _trained(checkpoints: Sequence[str]) -> dict[str, tuple[str, list[str]]]:
    """Rows of trained rerankers. Ends the program where a name is none of them."""
    rows = {}
    for text in checkpoints:
        name, _, file = text.partition("=")
        if name not in TRAINED or not file:
            raise SystemExit(f"--checkpoint {text}: expected NAME=FILE with a name of {', '.join(TRAINED)}")
        rows[name] = (name, [f"rerank.{name}.checkpoint={file}"])
    return rows


if __name__ == "__main__":
    main()
