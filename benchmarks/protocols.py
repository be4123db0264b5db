"""CPU seconds, of one thread, that the protocols take: 70 queries over a million images, the products' 60,502 queries.

    python benchmarks/protocols.py

Rankings and ground truth are drawn at random, in the sizes of Revisited Oxford with its distractors, of Google
Landmarks v2, of Stanford Online Products and of ILIAS. Only finding relevant ids and scoring are timed, query after
query, as `evaluate` does, on ids as the table store returns them; searching is not. "rows" are rankings of row numbers,
as `by_revisited` takes them. Intervals and the paired test are timed on the last of them.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import pyarrow as pa

from pipeline.evaluate import (
    PROTOCOLS,
    RevisitedTruth,
    Scores,
    by_revisited,
    confidence_intervals,
    mark_relevance,
    paired_tests,
)
from pipeline.types import Ranking

# Protocol, queries, gallery, places of a ranking (None: all), ids per group.
CASES = (
    ("revisited", 70, 1_005_994, None, {"easy": 50, "hard": 60, "junk": 110}),
    ("labels", 70, 1_000_000, None, {"positive": 100}),
    ("gldv2", 1_129, 761_757, 100, {"positive": 40}),
    ("ilias", 1_232, 5_000_000, 1_000, {"positive": 4}),
    ("products", 60_502, 60_502, 1_000, {"positive": 4}),
)


def main() -> None:
    """Time each case and print the table of docs/speed.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the queries, for a quick look")
    share = parser.parse_args().share
    print("| protocol | queries | gallery | results scored | CPU seconds |\n|---|---|---|---|---|")
    scores = Scores({})
    print(
        f"| revisited, rows | {70 * share:,.0f} | 1,005,994 | 1,005,994 | {time_rows(int(70 * share), 1_005_994):.2f} |"
    )
    for name, queries, gallery, shown, sizes in CASES:
        seconds, scores = time_case(name, max(2, int(queries * share)), gallery, shown or gallery, sizes)
        print(f"| {name} | {queries * share:,.0f} | {gallery:,} | {shown or gallery:,} | {seconds:.2f} |")
    started = time.process_time()
    confidence_intervals(scores)
    between = time.process_time()
    paired_tests(scores, Scores({key: values[::-1] for key, values in scores.per_query.items()}))
    print(f"\nof the last: intervals {between - started:.1f} s, paired tests {time.process_time() - between:.1f} s")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB, rankings included")


def time_case(name: str, queries: int, gallery: int, shown: int, sizes: dict[str, int]) -> tuple[float, Scores]:
    """Seconds to find relevant ids and to score."""
    rng = np.random.default_rng(0)
    ids = pa.array([f"image_{number:08d}.jpg" for number in range(gallery)])
    ranked, seconds = [], 0.0
    for number in range(queries):
        rows = rng.permutation(gallery)[:shown] if shown == gallery else rng.choice(gallery, shown)
        members = iter(ids.take(pa.array(rng.choice(rows, sum(sizes.values())))).to_pylist())
        groups = {group: {next(members) for _ in range(size)} for group, size in sizes.items()}
        ranking = Ranking(f"query {number}", ids.take(pa.array(rows)).to_pylist(), np.zeros(shown, dtype=np.float32))
        started = time.process_time()
        ranked.append(mark_relevance(ranking, groups))
        seconds += time.process_time() - started
    started = time.process_time()
    scores = PROTOCOLS[name].score(ranked)
    return seconds + time.process_time() - started, scores


def time_rows(queries: int, gallery: int) -> float:
    """Seconds of `by_revisited` in its three setups."""
    rng = np.random.default_rng(0)
    seconds = 0.0
    for _ in range(queries):
        ranking = rng.permutation(gallery)
        truth = RevisitedTruth(*np.split(rng.choice(gallery, 220, replace=False), [50, 110]))
        started = time.process_time()
        for setup in "EMH":
            by_revisited([ranking], [truth], setup)
        seconds += time.process_time() - started
    return seconds


if __name__ == "__main__":
    main()
