"""How fast matchers compare a query with 100 candidates, against the straightforward loop, in one run.

    python benchmarks/matching.py [--keypoints 1024] [--pairs 10] [--only-mutual] [--processor-time] [--json FILE]

XFeat's keypoints of real photos: the landmarks of `RELOOK_SHARED` (or `../shared`), the sample photos where there are
none. The loop is kornia's LightGlue with the same weights, one pair after the other, and a search for mutual nearest
neighbours in torch; it is timed on `--pairs` candidates spread over all, and scaled. Both ways are run in turn, and the
best of `--repeat` counts. "Of the limit": the operations of the keypoints and layers that were needed, divided by the
time and by what one large matrix product reaches in the same run. With `--processor-time`, for a machine that has other
work, a second is one of the processor: of the loop the calling thread's, which all else waits for, and of relook, whose
threads are equally busy, those of all threads divided by their number.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import kornia.feature
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from pipeline.checkpoints import read_checkpoint
from pipeline.describe.keypoints.registry import load_keypoints
from pipeline.imaging import read_image
from pipeline.rerank.matching.lightglue import LightGlueMatcher
from pipeline.rerank.matching.lightglue_weights import packaged_file, with_new_names
from pipeline.rerank.matching.matchers import load_matcher
from pipeline.rerank.matching.reranker import MatchingReranker
from pipeline.rerank.matching.verification import verify
from pipeline.types import Keypoints, Matches, VerifiedMatches

ROOT = Path(__file__).resolve().parents[1]
CANDIDATES = 100
# Confidences at which a pair stops, and at which keypoints are pruned; -1: never.
MODES = {"exact": (-1.0, -1.0), "pruning": (-1.0, 0.95), "late stop": (0.95, 0.95), "default": (0.8, 0.9)}
Pair = tuple[Keypoints, Keypoints]


@dataclass(frozen=True)
class Measurement:
    """One row.

    Attributes:
        matcher, mode: what was measured.
        loop, relook: seconds for all candidates.
        operations: that were needed (multiply and add count as two).
        of_limit: share of what a matrix product reaches.
        matches: of all candidates.
        other_matches: share of the matches of the timed pairs that only one of loop and relook has.
        difference: largest difference of the scores of the others.
    """

    matcher: str
    mode: str
    loop: float
    relook: float
    operations: float
    of_limit: float
    matches: int
    other_matches: float
    difference: float


def main() -> None:
    """Print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keypoints", type=int, default=1024)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only-mutual", action="store_true")
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pairs = photo_pairs(options.keypoints)
    rate = matmul_rate() * options.threads
    rows = [] if options.only_mutual else [lightglue(mode, pairs, rate, options) for mode in MODES]
    rows += [mutual(pairs, rate, options), verified(pairs, rate, options)]
    exact = rows[0].loop  # of LightGlue, where it is measured
    title = (
        f"{len(pairs)} candidates, {options.keypoints} keypoints, {options.threads} threads; "
        f"matrix products reach {rate / 1e9:.0f} GFLOP/s"
    )
    table = Table(title=title)
    for column in ("matcher", "mode", "loop s", "relook s", "ratio", "to exact loop", "GFLOP", "of the limit"):
        table.add_column(column)
    for column in ("matches", "others", "difference"):
        table.add_column(column)
    for row in rows:
        to_exact = f"{exact / row.relook:.1f}" if row.matcher == "lightglue" else ""
        table.add_row(
            *(row.matcher, row.mode, f"{row.loop:.2f}", f"{row.relook:.2f}", f"{row.loop / row.relook:.1f}", to_exact),
            *(f"{row.operations / 1e9:.0f}", f"{row.of_limit:.0%}", str(row.matches)),
            *(f"{row.other_matches:.2%}", f"{row.difference:.0e}"),
        )
    Console(width=140).print(table)
    if options.json:
        options.json.write_text(json.dumps({"title": title, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


def lightglue(mode: str, pairs: list[Pair], rate: float, options: argparse.Namespace) -> Measurement:
    """kornia's LightGlue in a loop, and relook's matcher."""
    depth, width = MODES[mode]
    matcher = load_matcher("lightglue", "xfeat", depth_confidence=depth, width_confidence=width)
    assert isinstance(matcher, LightGlueMatcher)
    network: Any = kornia.feature.LightGlue(
        None,
        **{"input_dim": 64, "descriptor_dim": 96, "n_layers": 6, "num_heads": 1, "filter_threshold": 0.1},
        depth_confidence=depth,
        width_confidence=width,
    )
    state = with_new_names(read_checkpoint(packaged_file("xfeat")).state)
    network.load_state_dict(state, strict=False)
    network.eval()

    @torch.inference_mode()
    def plainly(pair: Pair) -> Matches:
        found = network({f"image{side}": tensors(image) for side, image in enumerate(pair)})
        return Matches(found["matches"][0].numpy(), found["scores"][0].numpy())

    d = matcher.network.shape.width
    some = pairs[:: max(1, len(pairs) // options.pairs)]
    operations = sum(lightglue_operations(matcher, pair, d) for pair in some) * len(pairs) / len(some)
    points = len(pairs[0][0])
    operations -= (len(pairs) - 1) * (18 * points * d**2 + 4 * points**2 * d)  # the query's first layer, once
    return measured("lightglue", mode, pairs, plainly, matcher.match, operations, rate, options)


def mutual(pairs: list[Pair], rate: float, options: argparse.Namespace) -> Measurement:
    """One product and two searches for the maximum per pair, and relook's matcher."""

    operations = sum(2.0 * len(first) * len(second) * 64 for first, second in pairs)
    matcher = load_matcher("mutual", "xfeat")
    return measured("mutual", "", pairs, plain_mutual, matcher.match, operations, rate, options)


@torch.inference_mode()
def plain_mutual(pair: Pair) -> Matches:
    """Mutual nearest neighbours by torch's own searches."""
    cosines = torch.from_numpy(pair[0].descriptors) @ torch.from_numpy(pair[1].descriptors).T
    values, columns = cosines.max(dim=1)
    rows = torch.arange(len(cosines))
    kept = cosines.max(dim=0).indices[columns] == rows
    return Matches(torch.stack([rows[kept], columns[kept]], dim=1).numpy(), values[kept].clamp(0, 1).numpy())


def verified(pairs: list[Pair], rate: float, options: argparse.Namespace) -> Measurement:
    """The same, and a fundamental matrix of each pair; "matches" are inliers."""

    def plainly(pair: Pair) -> Matches:
        return inliers(verify(*pair, plain_mutual(pair), "fundamental", 0.005))

    def quickly(some: list[Pair]) -> list[Matches]:
        return [inliers(found) for found in reranker.match_images(some)]

    reranker = MatchingReranker(load_matcher("mutual", "xfeat"), keypoints=options.keypoints)
    return measured("mutual", "MAGSAC", pairs, plainly, quickly, 0.0, rate, options)


def inliers(found: VerifiedMatches) -> Matches:
    """The matches that agree, by their numbers."""
    numbers = np.flatnonzero(found.inliers)
    return Matches(np.stack([numbers, numbers], axis=1), found.scores[numbers])


def measured(
    matcher: str,
    mode: str,
    pairs: list[Pair],
    plainly: Callable[[Pair], Matches],
    quickly: Callable[[list[Pair]], list[Matches]],
    operations: float,
    rate: float,
    options: argparse.Namespace,
) -> Measurement:
    """Time both ways in turn, and compare what they find."""
    timed = list(range(0, len(pairs), max(1, len(pairs) // options.pairs)))
    plainly(pairs[0]), quickly(pairs[:2])
    slow = quick = float("inf")
    for _ in range(options.repeat):
        own = time.thread_time if options.processor_time else time.perf_counter
        started = own()
        expected = [plainly(pairs[number]) for number in timed]
        slow = min(slow, (own() - started) * len(pairs) / len(timed))
        started = clock(options)
        found = quickly(pairs)
        quick = min(quick, clock(options) - started)
    others, difference = compared([found[number] for number in timed], expected)
    matches = sum(map(len, found))
    return Measurement(matcher, mode, slow, quick, operations, operations / quick / rate, matches, others, difference)


def clock(options: argparse.Namespace) -> float:
    """Seconds of the clock, or processor seconds of all threads divided by their number."""
    return time.process_time() / options.threads if options.processor_time else time.perf_counter()


def compared(found: list[Matches], expected: list[Matches]) -> tuple[float, float]:
    """Share of matches that only one of both has, and the largest difference of the scores of the others."""
    single = shared = 0
    difference = 0.0
    for one, other in zip(found, expected, strict=True):
        ours, theirs = (
            dict(zip(map(tuple, part.rows.tolist()), part.scores.tolist(), strict=True)) for part in (one, other)
        )
        both = ours.keys() & theirs.keys()
        single, shared = single + len(ours.keys() ^ theirs.keys()), shared + len(both)
        difference = max([difference, *(abs(ours[key] - theirs[key]) for key in both)])
    return single / max(1, single + shared), difference


def lightglue_operations(matcher: LightGlueMatcher, pair: Pair, d: int) -> float:
    """Of the layers and keypoints that a pair needed, and of the last assignment."""
    (result,) = matcher.results([pair])
    m, n = map(len, pair)
    total = 0.0
    for layer in range(result.stop):
        m, n = (int((part > layer).sum()) for part in result.survived)
        total += 34 * (m + n) * d**2 + 4 * d * (m + n) ** 2
    return total + 2 * m * n * d + 4 * (m + n) * d**2


def tensors(image: Keypoints) -> dict[str, torch.Tensor]:
    """An image as kornia takes it."""
    return {
        "keypoints": torch.from_numpy(image.xy)[None],
        "descriptors": torch.from_numpy(image.descriptors)[None],
        "image_size": torch.tensor([image.region[2:]]),
    }


def photo_pairs(count: int) -> list[Pair]:
    """The first photo with each of the next ones, again from the start where there are too few."""
    shared = Path(os.environ.get("RELOOK_SHARED") or ROOT.parent / "shared") / "data" / "landmarks" / "images"
    folder = shared if shared.is_dir() else ROOT / "data" / "samples" / "images"
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    extractor = load_keypoints("xfeat", count=count)
    images = []
    for file in files[: CANDIDATES + 1]:
        images += extractor.extract([extractor.prepare(read_image(file).pixels)])
    others = images[1:]
    return [(images[0], others[number % len(others)]) for number in range(CANDIDATES)]


def matmul_rate() -> float:
    """Operations per second of large float32 products on one core, which several cores do beside each other."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    best = float("inf")
    for _ in range(5):
        started = time.thread_time()
        torch.mm(a, b)
        best = min(best, time.thread_time() - started)
    torch.set_num_threads(threads)
    return 2 * 2048**3 / best


if __name__ == "__main__":
    main()
