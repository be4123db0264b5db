"""The candidates' global descriptors of many queries, in blocks that fit the caches.

Below the rerankers that compare global descriptors with each other: `superglobal` and `classics`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import torch

from pipeline.errors import RelookError
from pipeline.rerank.parallel_batches import map_in_parallel
from pipeline.types import Candidates, DescriptorSource, FloatArray

# Bytes of candidate vectors that are looked at together; a block of queries is as large as fits.
_BLOCK_BYTES = 16 << 20


def score_blocks(
    vectors: Sequence[FloatArray],
    candidates: Candidates,
    gallery: DescriptorSource,
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    device: torch.device,
) -> list[FloatArray]:
    """Scores [K] float32 of the candidates of every query.

    Args:
        vectors: the global descriptor [D] of each query.
        candidates: of as many queries; lists may differ in length and be empty.
        gallery: where the candidates' descriptors are read.
        score: from queries [Q, D] and their candidates [Q, M, D] to scores [Q, M]; runs on several threads.
        device: where it computes.

    Raises:
        RelookError: there are not as many queries as lists.
    """
    if len(vectors) != len(candidates.ids):
        raise RelookError(f"{len(vectors)} queries for {len(candidates.ids)} lists of candidates")
    scores: list[FloatArray] = [np.zeros(0, np.float32)] * len(vectors)
    blocks = _blocks(vectors, candidates)
    read = (_read(block, vectors, candidates, gallery) for block in blocks)
    found = map_in_parallel(lambda part: score(*part).cpu().numpy(), read, device)
    for block, result in zip(blocks, found, strict=True):
        for row, values in zip(block, result, strict=True):
            scores[row] = values
    return scores


def _read(
    block: Sequence[int], vectors: Sequence[FloatArray], candidates: Candidates, gallery: DescriptorSource
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries [Q, D] and their candidates [Q, M, D], fetched at once."""
    names = list(chain.from_iterable(candidates.ids[row] for row in block))
    # Whatever store they come from, torch needs them contiguous and writable.
    flat = torch.from_numpy(np.require(gallery.globals(names), np.float32, ["C", "W"]))
    queries = torch.from_numpy(np.stack([vectors[row] for row in block]))
    return queries, flat.view(len(block), len(names) // len(block), -1)


def _blocks(vectors: Sequence[FloatArray], candidates: Candidates) -> list[list[int]]:
    """Queries with equally many candidates, in blocks that fit."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for row, ids in enumerate(candidates.ids):
        if ids:
            by_length[len(ids)].append(row)
    blocks = []
    for length, rows in by_length.items():
        size = max(1, _BLOCK_BYTES // (length * (4 * vectors[rows[0]].shape[0] + 4 * length)))
        blocks += [rows[start : start + size] for start in range(0, len(rows), size)]
    return blocks
