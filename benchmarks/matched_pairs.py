"""Scores of `matching`, each pair of photos matched once and kept in a file, for chains that are compared.

A score of matching depends on its two photos alone, so lists of several describers share it. Used by
`rerank_trained.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.catalog import Catalog
from pipeline.describe import Described, ReadOptions, describe_stream, keypoints_alone, load_keypoints
from pipeline.files import atomic_path
from pipeline.rerank.matching.reranker import MatchingReranker
from pipeline.types import Candidates, Description, DescriptorSource, FloatArray, ImageRecord, ModelCard
from pipeline.workflow.in_memory_gallery import InMemoryGallery

_QUERIES = 8  # whose new pairs are matched, then kept


class MatchedPairs:
    """A reranker with the scores of another one, `matching`.

    Args:
        matching: scores the pairs that are not known.
        catalog: the photos; ids of queries and candidates are those of its records.
        card: of the describer in whose colours they are read.
        file: keeps the scores: JSON, by the ids of query and candidate. It belongs to one configuration of `matching`.
        keypoints: of each photo, at most.
    """

    needs: frozenset[str] = frozenset()

    def __init__(
        self, matching: MatchingReranker, catalog: Catalog, card: ModelCard, file: Path, keypoints: int
    ) -> None:
        self._matching, self._catalog, self._file = matching, catalog, file
        self._records: dict[str, ImageRecord] = {record.id: record for record in catalog}
        self._describer = keypoints_alone(load_keypoints(matching.features, count=keypoints), card)
        self._described: dict[str, Description] = {}
        self._known: dict[str, dict[str, float]] = json.loads(file.read_text()) if file.exists() else {}

    def score(
        self, queries: Sequence[Description], candidates: Candidates, gallery: DescriptorSource
    ) -> list[FloatArray]:
        """See `Reranker.score`; `gallery` is not read."""
        missing = {
            query: new
            for query, ids in zip(candidates.query_ids, candidates.ids, strict=True)
            if (new := [name for name in ids if name not in self._known.get(query, {})])
        }
        names = list(missing)
        for start in range(0, len(names), _QUERIES):
            self._match({name: missing[name] for name in names[start : start + _QUERIES]})
            with atomic_path(self._file) as temporary:
                temporary.write_text(json.dumps(self._known))
        return [
            np.array([self._known[query][name] for name in ids], np.float32)
            for query, ids in zip(candidates.query_ids, candidates.ids, strict=True)
        ]

    def _match(self, wanted: Mapping[str, Sequence[str]]) -> None:
        self._find({name for query, ids in wanted.items() for name in (query, *ids)})
        gallery = InMemoryGallery(list(self._described), list(self._described.values()))
        lists = Candidates(
            list(wanted), list(wanted.values()), [np.zeros(len(ids), np.float32) for ids in wanted.values()]
        )
        found = self._matching.score([self._described[query] for query in wanted], lists, gallery)
        for query, values in zip(wanted, found, strict=True):
            self._known.setdefault(query, {}).update(zip(wanted[query], values.tolist(), strict=True))

    def _find(self, names: set[str]) -> None:
        """Keypoints of photos that have none yet."""
        missing = [self._records[name] for name in sorted(names - self._described.keys())]
        cores = os.cpu_count() or 1
        reading = ReadOptions(2, cores, cores, 10**8, 10**9)
        for item in describe_stream(self._describer, missing, self._catalog.file, reading):
            assert isinstance(item, Described), item
            self._described[item.record.id] = item.description
