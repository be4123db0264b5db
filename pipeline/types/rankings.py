"""What a search gives: the candidates of a store, and the ranking after the rerankers.

Candidates come from a store; rankings go to reports and protocols.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.types.descriptors import FloatArray


@dataclass(frozen=True)
class Candidates:
    """The first results of a store, best first.

    Attributes:
        query_ids: Q names.
        ids: Q lists of at most K ids (shorter where the store holds less).
        scores: Q float32 arrays as long as the lists: cosine similarities in [-1, 1], descending, ties by id; in a
            chain the scores that the list has there.
        earlier: what each earlier reranker of a chain scored, by its name: Q float32 arrays as long as the lists, NaN
            where it did not look.
    """

    query_ids: Sequence[str]
    ids: Sequence[Sequence[str]]
    scores: Sequence[FloatArray]
    earlier: Mapping[str, Sequence[FloatArray]] = field(default_factory=dict)


@dataclass(frozen=True)
class FurtherSearch:
    """What a reranker has searched of one query before it scores.

    Attributes:
        vectors: [n, D] float32 of unit length, such as an expanded query; n may be 0.
        count: how many of the nearest images of each vector join the candidates; None: as many as the step re-ranks.
    """

    vectors: FloatArray
    count: int | None = None


@dataclass(frozen=True)
class Ranking:
    """The result of one query, best first.

    Attributes:
        query_id: the query's name.
        ids: K ids.
        scores: [K] float32; the re-ranked head of the list has the fused score, the rest the global similarity, or with
            a margin or a calibration the fused score that the lowest score of the reranker would give.
        explanation: arrays of K beside the ids: "global_rank" (from 1), "global_score", and one per reranker.
        places: by reranker [K] int64, the place from 0 that each image had in the list when it was scored; what joined
            the list later has a place behind all.
    """

    query_id: str
    ids: Sequence[str]
    scores: FloatArray
    explanation: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    places: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)
