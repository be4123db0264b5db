"""Which images are held out for validation: whole labels, or whole sessions (images taken together, by similarity).

Used by both trainings. Photos of one label come in bursts of near duplicates: a validation on single photos of a burst
measures memorisation, and its gains do not carry over to new photos (docs/training.md).
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

# Images per session on average; images validated per session, so that few queries have near duplicates.
_SIZE = 4
_PER_SESSION = 2
# Images of a label that are left for training at least.
_LEAST = 3


@dataclass(frozen=True)
class Partition:
    """Rows to train on and rows to validate on; some belong to neither (the rest of held-out sessions)."""

    train: Rows
    validate: Rows


def find_sessions(vectors: FloatArray, size: int = _SIZE) -> Rows:
    """Session numbers [n] of the images of one label, by average linkage on cosine distances.

    Args:
        vectors: [n, D] of unit length.
        size: images per session on average.
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
    """Hold out `fraction` of the labels (two at least) with all their images, and the same share of the distractors.

    This measures whether re-ranking helps for labels that are not in the training set.
    """
    groups = rows_by_label(labels)
    distractors = groups.pop("", np.zeros(0, dtype=np.int64))
    rng = np.random.default_rng(seed)
    several = [label for label, rows in groups.items() if len(rows) > 1]
    count = max(2, round(fraction * len(several)))
    chosen = rng.permutation(len(several))[: count if len(several) - count >= 2 else 0]
    rows = [groups[several[number]] for number in chosen]
    rows.append(rng.permutation(distractors)[: round(fraction * len(distractors))] if rows else distractors[:0])
    validate = np.sort(np.concatenate(rows))
    return Partition(np.setdiff1d(np.arange(len(labels)), validate), validate)


def hold_out_sessions(labels: Sequence[str], vectors: FloatArray, fraction: float, seed: int) -> Partition:
    """Hold out about `fraction` of each label's images: whole sessions, those least similar to the rest.

    This measures whether re-ranking helps for new images of the labels in the training set.

    Args:
        labels: of N images; "" is a distractor, held out at random by the same fraction.
        vectors: [N, D] global descriptors of unit length.
        fraction: in [0, 1].
        seed: for the distractors.
    """
    validate: list[int] = []
    out: set[int] = set()
    for label, rows in rows_by_label(labels).items():
        if not label:
            chosen = np.random.default_rng(seed).permutation(rows)[: round(fraction * len(rows))]
            validate += chosen.tolist()
            out |= set(chosen.tolist())
            continue
        for session in _most_distinct(rows, vectors, fraction):
            validate += session[:_PER_SESSION].tolist()
            out |= set(session.tolist())
    train = [row for row in range(len(labels)) if row not in out]
    return Partition(np.array(train, dtype=np.int64), np.array(sorted(validate), dtype=np.int64))


def halves(labels: Sequence[str], vectors: FloatArray) -> Rows:
    """[N] int64, 0 or 1 per image: each label's sessions, the largest first, go to the half that has fewer images.

    Distractors alternate.
    """
    half = np.zeros(len(labels), dtype=np.int64)
    for label, rows in rows_by_label(labels).items():
        if not label:
            half[rows[1::2]] = 1
            continue
        sessions = find_sessions(vectors[rows], size=min(_SIZE, max(1, len(rows) // 4)))
        if len(np.unique(sessions)) == 1:  # copies of one image are one session, but each half needs some
            sessions = np.arange(len(rows)) % 2
        counts = np.zeros(2)
        for session in sorted(np.unique(sessions), key=lambda number: -int((sessions == number).sum())):
            chosen = rows[sessions == session]
            side = int(counts.argmin())
            half[chosen] = side
            counts[side] += len(chosen)
    return half


def rows_by_label(labels: Sequence[str]) -> dict[str, Rows]:
    """The rows of each label, labels sorted."""
    found: dict[str, list[int]] = defaultdict(list)
    for row, label in enumerate(labels):
        found[label].append(row)
    return {label: np.array(found[label], dtype=np.int64) for label in sorted(found)}


def _most_distinct(rows: Rows, vectors: FloatArray, fraction: float) -> list[Rows]:
    """The sessions to hold out, as rows, the least similar first; single images where no session is small enough."""
    similarity = vectors[rows] @ vectors[rows].T
    limit = min(max(_PER_SESSION, round(fraction * len(rows)) + 1), len(rows) - _LEAST)
    for size in (_SIZE, 1):
        sessions = find_sessions(vectors[rows], size)
        order = sorted(np.unique(sessions), key=lambda number: _nearness(similarity, sessions == number))
        chosen: list[Rows] = []
        held_out = 0
        for number in order:
            session = rows[sessions == number]
            if held_out + len(session) <= limit:
                chosen.append(session)
                held_out += len(session)
        if sum(min(len(session), _PER_SESSION) for session in chosen) >= 2:
            return chosen
    return []


def _nearness(similarity: FloatArray, inside: npt.NDArray[np.bool_]) -> float:
    """The mean similarity of a session's images to the nearest image outside of it."""
    if inside.all():
        return 1.0
    return float(similarity[inside][:, ~inside].max(axis=1).mean())
