"""How fast each reranker looks at 100 candidates, against the straightforward way, in one run.

    python benchmarks/rerank.py [--only cvnet,superglobal,rrt,ames,elvis,locore] [--bfloat16] [--processor-time]

The straightforward way does what the official scripts do: one pair at a time, nothing kept from one pair to the next,
and for SuperGlobal every neighbour of every candidate written out; for LoCoRe, which scores lists, plain attention of
all tokens to all under a mask. Both sides have the same random weights and inputs;
their scores are compared. Seconds are the best of `--repeat`; the pairs of the straightforward way are timed on
`--pairs` candidates and scaled to 100. "Of the limit" is the operations that have to be done, divided by the time and
by what one large matrix product reaches in the same run. With `--bfloat16`, each network of relook runs in bfloat16
too, by turns, and the largest change of a score is given; it is quick only where the processor has such instructions.
With `--processor-time`, for a machine that has other work, a second is one of the processor, except SuperGlobal's: of
the straightforward way the calling thread's, which all else waits for, and of relook, whose threads are equally busy,
those of all threads divided by their number.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Claim, write_json
from naive_rerankers import (
    ames_scores,
    cvnet_pair,
    elvis_scores,
    locore_scores,
    pyramid,
    rrt_scores,
    superglobal_all,
)
from rich.console import Console
from rich.table import Table
from torch import nn

from pipeline.rerank.ames.network import AMESNetwork, AMESShape
from pipeline.rerank.ames.reranker import AMESReranker
from pipeline.rerank.cvnet.network import CVLearner
from pipeline.rerank.cvnet.reranker import CVNetReranker
from pipeline.rerank.elvis.network import ELViSNetwork, ELViSShape
from pipeline.rerank.elvis.reranker import ELViSReranker
from pipeline.rerank.locore.network import LoCoReNetwork
from pipeline.rerank.locore.reranker import LoCoReReranker
from pipeline.rerank.locore.shape import LoCoReShape
from pipeline.rerank.rrt.network import RRTNetwork, RRTShape
from pipeline.rerank.rrt.reranker import RRTReranker
from pipeline.rerank.superglobal import SuperGlobalReranker
from pipeline.types import Candidates, Description, LocalDescriptors

CANDIDATES = 100
# CVNet-Rerank's maps at stage 3 of a picture of 320 x 240 pixels.
MAP = (20, 15)
LEVELS = (0.25, 0.5, 1.0)
RRT_LOCALS = 500
AMES_LOCALS = 600, 50
ELVIS_LOCALS = 600, 600
SUPERGLOBAL = {"queries": 70, "gallery": 6000, "dimension": 2048, "k": 9}


@dataclass(frozen=True)
class Measurement:
    """One row: seconds for all candidates, operations that cannot be avoided (multiply and add count as two).

    `half`: seconds in bfloat16, and the largest change of a score.
    """

    name: str
    what: str
    straightforward: float
    batch: float | None
    relook: float
    operations: float
    difference: float
    note: str = ""
    half: tuple[float, float] | None = None


class Gallery:
    """Descriptions in memory, as an index would hand them over."""

    def __init__(self, items: list[Description]) -> None:
        self._items = items

    def globals(self, ids: list[str]) -> np.ndarray:
        return np.stack([self._items[int(name)].vector for name in ids])

    def locals(self, ids: list[str]) -> list[LocalDescriptors]:
        return [self._items[int(name)].locals for name in ids]

    def maps(self, ids: list[str]) -> list:
        return [self._items[int(name)].maps for name in ids]


Clock = Callable[[], float]


def best(work: Callable[[], object], repeat: int, clock: Clock = time.perf_counter) -> tuple[float, object]:
    """The shortest time of `repeat`, and what the last run returned."""
    times = []
    for _ in range(repeat):
        started = clock()
        result = work()
        times.append(clock() - started)
    return min(times), result


def clocks(options: argparse.Namespace) -> tuple[Clock, Clock]:
    """Of the straightforward way, and of relook."""
    if not options.processor_time:
        return time.perf_counter, time.perf_counter
    return time.thread_time, lambda: time.process_time() / options.threads


def by_turns(works: Sequence[Callable[[], np.ndarray]], repeat: int, clock: Clock) -> list[tuple[float, np.ndarray]]:
    """`best` of each, one after the other in every round."""
    rounds = [[best(work, 1, clock) for work in works] for _ in range(repeat)]
    return [(min(seconds for seconds, _ in one), one[-1][1]) for one in zip(*rounds, strict=True)]


def timed_half(
    make: Callable[..., Any], score: Callable[[Any], np.ndarray], options: argparse.Namespace
) -> tuple[float, np.ndarray, tuple[float, float] | None]:
    """Seconds and scores of a reranker in float32, and what bfloat16 takes and changes."""
    kinds = ("float32", "bfloat16") if options.bfloat16 else ("float32",)
    rerankers = [make(precision=kind) for kind in kinds]
    (quick, found), *others = by_turns([partial(score, one) for one in rerankers], options.repeat, clocks(options)[1])
    half = [(seconds, float(np.abs(scores - found).max())) for seconds, scores in others]
    return quick, found, half[0] if half else None


def candidates_of(count: int) -> Candidates:
    return Candidates(["q"], [[str(number) for number in range(count)]], [np.ones(count, np.float32)])


def compare(
    name: str,
    what: str,
    plainly: Callable[[Sequence[int]], list[float]],
    make: Callable[..., Any],
    query: Description,
    items: list[Description],
    operations: float,
    options: argparse.Namespace,
    tolerance: float,
) -> Measurement:
    """Time both ways in turn."""
    count = min(options.pairs, len(items))
    gallery, candidates = Gallery(items), candidates_of(len(items))

    def fast(reranker: Any) -> np.ndarray:
        return reranker.score([query], candidates, gallery)[0]

    best(lambda: [plainly([0]), make().score([query], candidates_of(2), gallery)], 1)
    own = clocks(options)[0]
    slow, expected = best(lambda: [plainly([row])[0] for row in range(count)], options.repeat, own)
    quick, found, half = timed_half(make, fast, options)
    batch = None if name == "cvnet" else best(lambda: plainly(range(len(items))), 1, own)[0]
    difference = float(np.abs(np.array(expected) - found[:count]).max())
    assert difference < tolerance, f"{name}: the two ways differ by {difference}"
    return Measurement(name, what, slow * len(items) / count, batch, quick, operations, difference, half=half)


@torch.inference_mode()
def cvnet(options: argparse.Namespace) -> Measurement:
    torch.manual_seed(0)
    learner = CVLearner(len(LEVELS)).eval()
    convolutions = nn.ModuleList([nn.Conv2d(1024, 256, 3, padding=1, bias=False) for _ in LEVELS]).eval()
    query, *others = torch.randn(CANDIDATES + 1, 1024, *MAP)
    stored = [tuple(level.numpy().astype(np.float16) for level in pyramid(m, convolutions, LEVELS)) for m in others]
    query_maps = tuple(level.numpy() for level in pyramid(query, convolutions, LEVELS))
    vector = np.zeros(1, np.float32)
    return compare(
        "cvnet",
        f"maps of {MAP[0]} x {MAP[1]}",
        lambda rows: [cvnet_pair(query, others[row], convolutions, LEVELS, learner) for row in rows],
        partial(CVNetReranker, learner),
        Description(vector, maps=query_maps),
        [Description(vector, maps=item) for item in stored],
        CANDIDATES * _cvnet_operations(),
        options,
        2e-3,  # the stored maps are float16
    )


def _cvnet_operations() -> float:
    """Products of half the volume, and the convolutions, of one pair."""
    height, width = MAP
    total = 0.0
    inputs, q = 9, (height, width)
    total += 2 * 9 * 256 * height * width * -(-height // 2) * -(-width // 2)
    for block in (
        ((16, 5, 2),),
        ((16, 3, 1), (32, 3, 2)),
        ((32, 3, 1), (32, 3, 1), (64, 3, 2)),
        ((64, 3, 1), (64, 3, 1), (128, 3, 1)),
    ):
        for outputs, kernel, stride in block:
            q = -(-q[0] // stride), -(-q[1] // stride)
            total += 2 * (q[0] * q[1]) ** 2 * kernel**2 * inputs * outputs
            inputs = outputs
    return 2 * total


@torch.inference_mode()
def rrt(options: argparse.Namespace) -> Measurement:
    torch.manual_seed(0)
    network = RRTNetwork(RRTShape()).eval()
    query, items = _described(RRT_LOCALS, RRT_LOCALS, 128, 2048)
    tokens, width, feedforward, layers = 2 * RRT_LOCALS + 4, 128, 1024, 6
    layer = 2 * tokens * (4 * width**2 + 2 * width * feedforward) + 4 * tokens**2 * width
    # The last layer has to say nothing but its first token, for which it needs keys and values of all.
    last = 2 * tokens * 2 * width**2
    return compare(
        "rrt",
        f"{RRT_LOCALS} + {RRT_LOCALS} locals",
        lambda rows: rrt_scores(network, query, [items[row] for row in rows]),
        partial(RRTReranker, network),
        query,
        items,
        CANDIDATES * ((layers - 1) * layer + last),
        options,
        1e-5,
    )


@torch.inference_mode()
def ames(options: argparse.Namespace, binarised: bool = False) -> Measurement:
    torch.manual_seed(0)
    network = AMESNetwork(AMESShape(local_dim=768, binarised=binarised)).eval()
    own, stored = AMES_LOCALS
    query, items = _described(own, stored, 768, 1)
    width, feedforward, layers, tokens = 128, 1024, 5, own + stored + 1
    within = 2 * tokens * 4 * width**2 + 4 * width * ((own + 1) ** 2 + (stored + 1) ** 2)
    across = 2 * tokens * 4 * width**2 + 4 * width * 2 * (own + 1) * (stored + 1)
    forward = 2 * tokens * 2 * width * feedforward
    shared = 2 * (own + 1) * 4 * width**2 + 4 * width * (own + 1) ** 2
    pair = layers * within + (layers - 1) * (across + forward) + 2 * tokens * 2 * width**2
    return compare(
        "ames (bits)" if binarised else "ames",
        f"{own} + {stored} locals",
        lambda rows: ames_scores(network, query, [items[row] for row in rows]),
        partial(AMESReranker, network),
        query,
        items,
        CANDIDATES * pair - (CANDIDATES - 1) * shared,
        options,
        1e-5,
    )


@torch.inference_mode()
def elvis(options: argparse.Namespace) -> Measurement:
    torch.manual_seed(0)
    network = ELViSNetwork(ELViSShape()).eval()
    own, stored = ELVIS_LOCALS
    query, items = _described(own, stored, 768, 1)
    width, temperature = 128, 0.001
    begin = 2 * width * (768 + width)
    matrix = (own + 1) * (stored + 1)
    pair = stored * begin + 2 * matrix * (width + 2) + 4 * network.shape.iterations * matrix
    return compare(
        "elvis",
        f"{own} + {stored} locals",
        lambda rows: elvis_scores(network, query, [items[row] for row in rows], temperature),
        partial(ELViSReranker, network, temperature=temperature),
        query,
        items,
        CANDIDATES * pair + own * begin,
        options,
        1e-5,
    )


def _described(own: int, stored: int, width: int, dimension: int) -> tuple[Description, list[Description]]:
    rng = np.random.default_rng(0)

    def one(count: int) -> Description:
        rows = rng.normal(size=(count, width)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        vector = rng.normal(size=dimension).astype(np.float32)
        ones = np.ones(count, np.float32)
        return Description(
            vector / np.linalg.norm(vector), LocalDescriptors(rows, np.zeros((count, 2), np.float32), ones, ones)
        )

    return one(own), [one(stored) for _ in range(CANDIDATES)]


@torch.inference_mode()
def locore(options: argparse.Namespace) -> Measurement:
    """All candidates in one pass: the straightforward way attends by a dense mask."""
    torch.manual_seed(0)
    layers = options.layers
    shape = LoCoReShape(layers=layers, windows=(512,) * layers)
    network = LoCoReNetwork(shape).eval()
    query, items = _described(shape.locals, shape.locals, shape.width, shape.d_global)
    reranker, gallery, candidates = LoCoReReranker(network), Gallery(items), candidates_of(CANDIDATES)
    last = network.candidate_tokens(CANDIDATES)[:, -1]

    def plainly() -> np.ndarray:
        return locore_scores(network, reranker.lists_of([query, *items]))[0, last, 1].sigmoid().numpy()

    quick, found, half = timed_half(
        partial(LoCoReReranker, network), lambda one: one.score([query], candidates, gallery)[0], options
    )
    slow, expected = best(plainly, options.repeat, clocks(options)[0])
    difference = float(np.abs(expected - found).max())
    assert difference < 1e-5, f"locore: the two ways differ by {difference}"
    tokens, width, special = (1 + CANDIDATES) * shape.per_image, shape.width, shape.per_image + CANDIDATES
    linear = 2 * tokens * (6 * width**2 + 2 * width * shape.feedforward)
    attention = 4 * tokens * width * (512 + special) + 4 * tokens * width * special
    # The last layer needs no global tokens, and one token of each candidate behind its attention.
    final = 2 * tokens * 3 * width**2 + 4 * tokens * width * (512 + special)
    operations = (layers - 1) * (linear + attention) + final
    what = f"{shape.locals} + 1 descriptors, {layers} of 12 layers"
    return Measurement("locore", what, slow, None, quick, operations, difference, half=half)


def superglobal(options: argparse.Namespace, top: int = CANDIDATES) -> Measurement:
    """Each way in a process of its own, because what is measured beside the time is the peak of memory."""
    slow, slow_bytes, expected = _superglobal_alone("straightforward", top, options)
    quick, quick_bytes, found = _superglobal_alone("relook", top, options)
    query_count, width, k = (SUPERGLOBAL[key] for key in ("queries", "dimension", "k"))
    vectors = 4 * query_count * top * width
    operations = query_count * (2 * top * top * width + 4 * top * width + 2 * (k + 1) ** 2 * width)
    note = (
        f"peak memory beyond the gallery: {slow_bytes / 2**20:,.0f} MB against {quick_bytes / 2**20:,.0f} MB, which is "
        f"{quick_bytes / vectors:.2f} times the candidates' vectors ({vectors / 2**20:,.0f} MB)"
    )
    difference = float(np.abs(expected - found).max())
    assert difference < 2e-6, f"superglobal: the two ways differ by {difference}"
    what = f"{query_count} queries, top {top} of {SUPERGLOBAL['gallery']:,} x {width}"
    return Measurement("superglobal", what, slow, None, quick, operations, difference, note)


def _superglobal_alone(way: str, top: int, options: argparse.Namespace) -> tuple[float, float, np.ndarray]:
    """Seconds, peak of memory in bytes, and scores."""
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "scores.npy"
        command = [sys.executable, __file__, "--superglobal", way, "--top", str(top), "--scores", str(file)]
        command += ["--repeat", str(options.repeat), "--threads", str(options.threads)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        seconds, peak = map(float, done.stdout.split())
        return seconds, peak, np.load(file)


@torch.inference_mode()
def superglobal_process(way: str, top: int, repeat: int, file: Path) -> None:
    """Print seconds and the bytes of memory above those of the gallery; the scores go to `file`."""
    rng = np.random.default_rng(0)
    count, width, query_count, k = (SUPERGLOBAL[key] for key in ("gallery", "dimension", "queries", "k"))
    centres = rng.normal(size=(count // 40, width)).astype(np.float32)
    gallery = centres[rng.integers(0, len(centres), count)] + rng.normal(size=(count, width)).astype(np.float32)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    queries = gallery[rng.permutation(count)[:query_count]] + 0.01 * rng.normal(size=(query_count, width)).astype(
        np.float32
    )
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    order = np.argsort(-(queries @ gallery.T), axis=1)[:, :top]
    names = [[str(row) for row in rows] for rows in order]
    descriptions = [Description(query) for query in queries]
    candidates = Candidates([str(row) for row in range(query_count)], names, [np.zeros(top, np.float32)] * query_count)

    class Stored:
        def globals(self, ids: list[str]) -> np.ndarray:
            return gallery[[int(name) for name in ids]]

    reranker = SuperGlobalReranker(k=k)
    torch.mm(torch.randn(512, 512), torch.randn(512, 512))
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of what was done until here
    before = _peak()
    if way == "relook":
        seconds, scores = best(lambda: np.stack(reranker.score(descriptions, candidates, Stored())), repeat)
    else:
        tensors = torch.from_numpy(gallery), torch.from_numpy(queries), torch.from_numpy(order)
        seconds, scores = best(lambda: superglobal_all(*tensors, k=k).numpy(), repeat)
    peak = _peak() - before
    np.save(file, scores)
    print(seconds, peak)


def _peak() -> int:
    """Bytes of memory that this process has held at most (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def matmul_rate(options: argparse.Namespace) -> float:
    """Operations per second of one large float32 product: what this machine reaches when nothing else has to move."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    seconds, _ = best(lambda: torch.mm(a, b), 5, clocks(options)[0])
    return 2 * 2048**3 / seconds


MEASURES: dict[str, Callable[[argparse.Namespace], Measurement]] = {
    "cvnet": cvnet,
    "superglobal": superglobal,
    "superglobal-400": lambda options: superglobal(options, top=400),
    "rrt": rrt,
    "ames": ames,
    "locore": locore,
    "ames-bits": lambda options: ames(options, binarised=True),
    "elvis": elvis,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(MEASURES))
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=12, help="of locore; the released network has 12")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--superglobal", choices=["straightforward", "relook"], help=argparse.SUPPRESS)
    parser.add_argument("--top", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--scores", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.superglobal:
        superglobal_process(options.superglobal, options.top, options.repeat, options.scores)
        return
    console = Console(width=140)
    rate = matmul_rate(options)
    table = Table(
        title=f"{CANDIDATES} candidates, {options.threads} threads; a matrix product reaches {rate / 1e9:.0f} GFLOP/s"
    )
    columns = [
        "reranker",
        "input",
        "one by one s",
        "one batch s",
        "relook s",
        "ratio",
        "GFLOP",
        "of the limit",
        "difference",
        "bfloat16 s",
        "change",
    ]
    for column in columns:
        table.add_column(column)
    notes, claims = [], []
    for name in options.only.split(","):
        row = MEASURES[name](options)
        least = row.operations / rate
        unit = "CPU s of a thread" if options.processor_time and row.name != "superglobal" else "s"
        claims.append(Claim(f"{row.name}, {row.what}", unit, row.relook, row.straightforward, least, "one by one"))
        table.add_row(
            row.name,
            row.what,
            f"{row.straightforward:.2f}",
            "" if row.batch is None else f"{row.batch:.2f}",
            f"{row.relook:.3f}",
            f"{row.straightforward / row.relook:.1f}" + (f" / {row.batch / row.relook:.1f}" if row.batch else ""),
            f"{row.operations / 1e9:.1f}",
            f"{row.operations / row.relook / rate:.0%}",
            f"{row.difference:.0e}",
            *((f"{row.half[0]:.3f}", f"{row.half[1]:.0e}") if row.half else ("", "")),
        )
        if row.half:
            claims.append(Claim(f"{row.name} in bfloat16, {row.what}", unit, row.half[0], row.relook, beside="float32"))
        notes += [f"{row.name}, {row.what}: {row.note}"] if row.note else []
    console.print(table)
    for note in notes:
        console.print(note)
    write_json(options.json, claims)


if __name__ == "__main__":
    main()
