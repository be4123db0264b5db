"""Sessions: pictures of one thing that were taken together, found by their likeness.

Used by reranker training. Photos of one label come in bursts, and a burst's photos are near duplicates: a validation
that holds out single photos of a burst measures memory, and promises gains that new photos do not see
(docs/training.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from pipeline.train.loop.task import Rows
from pipeline.types import FloatArray

# Pictures per session on average; what is held out per session, so that a burst does not answer itself.
_SIZE = 4
_PER_SESSION = 2
# A label needs so many pictures left to be learnt from.
_LEAST = 3


@dataclass(frozen=True)
class Partition:
    """Rows to learn from and rows to validate on; some belong to neither (the rest of held-out sessions)."""

    learn: Rows
    validate: Rows


def find_sessions(vectors: FloatArray, size: int = _SIZE) -> Rows:
    """Session numbers [n] of pictures of one label, by average linkage on cosine distances.

    Args:
        vectors: [n, D] of unit length.
        size: pictures per session on average.
    """
    count = len(vectors)
    sessions = round(count / size)
    if sessions < 2:
        return np.zeros(count, dtype=np.int64)
    distances = np.clip(1 - vectors.astype(np.float64) @ vectors.T, 0, None)
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), "average")
    return np.asarray(fcluster(tree, sessions, "maxclust"), dtype=np.int64) - 1


def hold_out_labels(labels: Sequence[str], fraction: float, seed: int) -> Partition:
    """Hold out `fraction` of the labels (two at least) with all their pictures, and as much of the distractors.

    What is validated is then what matters where most things have no label: whether re-ranking helps for things
    that nobody showed it.
    """
    groups = members(labels)
    loose = groups.pop("", np.zeros(0, dtype=np.int64))
    rng = np.random.default_rng(seed)
    several = [label for label, rows in groups.items() if len(rows) > 1]
    count = max(2, round(fraction * len(several)))
    chosen = rng.permutation(len(several))[: count if len(several) - count >= 2 else 0]
    rows = [groups[several[number]] for number in chosen]
    rows.append(rng.permutation(loose)[: round(fraction * len(loose))] if rows else loose[:0])
    validate = np.sort(np.concatenate(rows))
    return Partition(np.setdiff1d(np.arange(len(labels)), validate), validate)


def hold_out_sessions(labels: Sequence[str], vectors: FloatArray, fraction: float, seed: int) -> Partition:
    """Hold out about `fraction` of each label's pictures: whole sessions, those least like the rest.

    What is validated is whether re-ranking helps for new pictures of the things that it learns.

    Args:
        labels: of N pictures; "" is a distractor, held out at random by the same fraction.
        vectors: [N, D] global descriptors of unit length.
        fraction: in [0, 1].
        seed: for the distractors.
    """
    validate: list[int] = []
    out: set[int] = set()
    for label, rows in members(labels).items():
        if not label:
            chosen = np.random.default_rng(seed).permutation(rows)[: round(fraction * len(rows))]
            validate += chosen.tolist()
            out |= set(chosen.tolist())
            continue
        for session in _loneliest(rows, vectors, fraction):
            validate += session[:_PER_SESSION].tolist()
            out |= set(session.tolist())
    learn = [row for row in range(len(labels)) if row not in out]
    return Partition(np.array(learn, dtype=np.int64), np.array(sorted(validate), dtype=np.int64))


def halves(labels: Sequence[str], vectors: FloatArray) -> Rows:
    """0 or 1 per picture: every label's sessions are dealt out, the largest first, to the half that has fewer pictures.

    Distractors go to both in turn.
    """
    half = np.zeros(len(labels), dtype=np.int64)
    for label, rows in members(labels).items():
        if not label:
            half[rows[1::2]] = 1
            continue
        sessions = find_sessions(vectors[rows], size=min(_SIZE, max(1, len(rows) // 4)))
        if len(np.unique(sessions)) == 1:  # copies of one picture are one session, but each half needs some
            sessions = np.arange(len(rows)) % 2
        counts = np.zeros(2)
        for session in sorted(np.unique(sessions), key=lambda number: -int((sessions == number).sum())):
            chosen = rows[sessions == session]
            side = int(counts.argmin())
            half[chosen] = side
            counts[side] += len(chosen)
    return half


def members(labels: Sequence[str]) -> dict[str, Rows]:
    """The rows of each label, labels sorted."""
    found: dict[str, list[int]] = defaultdict(list)
    for row, label in enumerate(labels):
        found[label].append(row)
    return {label: np.array(found[label], dtype=np.int64) for label in sorted(found)}


def _loneliest(rows: Rows, vectors: FloatArray, fraction: float) -> list[Rows]:
    """Sessions to hold out, as rows, loneliest first; single pictures where no session is small enough."""
    likeness = vectors[rows] @ vectors[rows].T
    limit = min(max(_PER_SESSION, round(fraction * len(rows)) + 1), len(rows) - _LEAST)
    for size in (_SIZE, 1):
        sessions = find_sessions(vectors[rows], size)
        order = sorted(np.unique(sessions), key=lambda number: _likeness(likeness, sessions == number))
        chosen: list[Rows] = []
        held = 0
        for number in order:
            session = rows[sessions == number]
            if held + len(session) <= limit:
                chosen.append(session)
                held += len(session)
        if sum(min(len(session), _PER_SESSION) for session in chosen) >= 2:
            return chosen
    return []


def _likeness(likeness: FloatArray, inside: npt.NDArray[np.bool_]) -> float:
    """How near the pictures of a session are to the nearest of the others, on average."""
    if inside.all():
        return 1.0
    return float(likeness[inside][:, ~inside].max(axis=1).mean())
