"""`compare`: two evaluations of the same queries, query by query.

Reads the `evaluation.json` of two runs, or of one: then its global search is compared with its re-ranked results.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import RelookError, UsageError
from pipeline.evaluate import PairedTest, Scores, paired_tests


@dataclass(frozen=True)
class Side:
    """One of the two rankings.

    Attributes:
        name: what people call it.
        report: the document that it is in.
        ranking: "global" or "reranked".
    """

    name: str
    report: Mapping[str, Any]
    ranking: str

    def rows(self) -> dict[str, Mapping[str, Any]]:
        """Its queries by id."""
        return {row["query"]: row for row in self.report["per_query"]}


@dataclass(frozen=True)
class CompareResult:
    """Both sides over the queries that both have.

    Attributes:
        metric: what wins and losses are counted by.
        tests: of each metric.
        left_out: queries that only one of them has.
        queries: one plain object per query, largest gain first, largest loss last; "before" and "after" in percent.
        curves: "recall" and "precision" (0 to 1) of each side, by "before" and "after"; empty where an evaluation has
            other queries, or no curves.
    """

    protocol: str
    dataset: str
    before: str
    after: str
    metric: str
    means: dict[str, tuple[float, float]]
    tests: dict[str, PairedTest]
    left_out: int
    queries: list[dict[str, Any]]
    curves: dict[str, dict[str, list[float]]]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`; metrics in percent."""
        return {
            "protocol": self.protocol,
            "dataset": self.dataset,
            "before": self.before,
            "after": self.after,
            "metric": self.metric,
            "metrics": {name: self._metric_json(name) for name in self.tests},
            "left_out": self.left_out,
            "queries": self.queries,
            "curves": self.curves,
        }

    def _metric_json(self, name: str) -> dict[str, Any]:
        test, (before, after) = asdict(self.tests[name]), self.means[name]
        interval = [round(100 * end, 2) for end in test.pop("interval")]
        difference = round(100 * test.pop("difference"), 2)
        return {"before": before, "after": after, "difference": difference, "interval": interval, **test}


def compare(first: Path, second: Path | None = None, metric: str | None = None) -> CompareResult:
    """Compare.

    Args:
        first: an `evaluation.json`, or the folder of one.
        second: another; None: the re-ranked results of `first` are compared with its own global search.
        metric: what wins and losses are counted by; None: the protocol's.

    Raises:
        RelookError: a file is no evaluation, they are of different data sets or protocols, or share no query.
        UsageError: there is no such metric, or there is one file without re-ranked results.
    """
    before, after = _sides(first, second)
    for key in ("protocol", "dataset", "split"):
        if before.report[key] != after.report[key]:
            raise RelookError(
                f"{first} is of {key} {before.report[key]!r}, {second} of {after.report[key]!r}: nothing to compare"
            )
    metric = metric or before.report["headline"]
    if metric not in before.report["global"]:
        raise UsageError(f"no metric {metric!r} in {first}; there are: {', '.join(before.report['global'])}")
    ours, theirs = before.rows(), after.rows()
    common = [name for name in ours if name in theirs]
    if not common:
        raise RelookError(f"{first} and {second} have no query in common")
    scores = [_scores(side, [rows[name] for name in common]) for side, rows in ((before, ours), (after, theirs))]
    left_out = len(ours.keys() ^ theirs.keys())
    summaries = [side.summary() for side in scores]
    return CompareResult(
        protocol=before.report["protocol"],
        dataset=before.report["dataset"],
        before=before.name,
        after=after.name,
        metric=metric,
        means={name: (value, summaries[1][name]) for name, value in summaries[0].items() if name in summaries[1]},
        tests=paired_tests(scores[0], scores[1]),
        left_out=left_out,
        queries=_ordered(before, after, [(ours[name], theirs[name]) for name in common], metric),
        curves={} if left_out else _curves(before, after),
    )


def _sides(first: Path, second: Path | None) -> tuple[Side, Side]:
    one = _read(first)
    if second is None:
        if not one["rerank"]:
            raise UsageError(
                f"{first}: has no re-ranked results to compare its global search with; give another evaluation"
            )
        return Side("global search", one, "global"), Side(" > ".join(one["rerank"]), one, "reranked")
    return _side(first, one), _side(second, _read(second))


def _side(path: Path, report: Mapping[str, Any]) -> Side:
    chain = " > ".join(report["rerank"]) or "global search"
    return Side(f"{path}: {chain}", report, "reranked" if report["rerank"] else "global")


def _read(path: Path) -> Mapping[str, Any]:
    file = path / "evaluation.json" if path.is_dir() else path
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        needed = {"protocol", "dataset", "split", "rerank", "headline", "global", "per_query"}
        if not needed <= report.keys():
            raise ValueError(f"it lacks {', '.join(sorted(needed - report.keys()))}")
        for row in report["per_query"]:
            row["query"], row["path"], row["global"]
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise RelookError(
            f"{file}: not an evaluation.json ({error}); relook evaluate --report DIR writes one"
        ) from None
    return report  # type: ignore[no-any-return]


def _scores(side: Side, rows: Sequence[Mapping[str, Any]]) -> Scores:
    names = side.report["global"]
    return Scores({name: np.array([row[side.ranking][name] for row in rows], dtype=np.float64) for name in names})


def _curves(before: Side, after: Side) -> dict[str, dict[str, list[float]]]:
    """Of both sides, or of none: one alone compares nothing. Those of a file are means over all its queries."""
    found = {}
    for name, side in (("before", before), ("after", after)):
        curve = (side.report.get("curves") or {}).get(side.ranking)
        if not curve:
            return {}
        found[name] = {key: curve[key] for key in ("recall", "precision")}
    return found


def _ordered(
    before: Side, after: Side, pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], metric: str
) -> list[dict[str, Any]]:
    """Queries that both can score, largest gain first."""
    rows = []
    for ours, theirs in pairs:
        values = ours[before.ranking][metric], theirs[after.ranking][metric]
        if None in values:
            continue
        rows.append(
            {
                **{key: ours[key] for key in ("query", "path", "bbox", "label")},
                "before": round(100 * values[0], 2),
                "after": round(100 * values[1], 2),
                "difference": round(100 * (values[1] - values[0]), 2),
                "answers": {
                    "before": ours.get("answers", {}).get(before.ranking, []),
                    "after": theirs.get("answers", {}).get(after.ranking, []),
                },
            }
        )
    return sorted(rows, key=lambda row: -row["difference"])
