"""Reads of one namespace: nearest records with ties in order, records by id, and original ids of hashed ones.

Below the store, which joins them with the rules of models and writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np

from pipeline.errors import RelookError
from pipeline.stores.pinecone.ids import is_hashed, original_id
from pipeline.stores.pinecone.limits import TOP_K
from pipeline.stores.pinecone.record_api import ORIGINAL, Record
from pipeline.stores.pinecone.service import PineconeService, RemoteIndex
from pipeline.types import FloatArray

# Results requested beyond the cut, so that ties there can be ordered by id.
_BEYOND = 10
# Scores are sums in float32: what rounds to the same multiple of one over this is equal.
_STEPS = 2.0**20

One = TypeVar("One")
Other = TypeVar("Other")


class NamespaceReader:
    """Reads the namespace `space`, whose vectors have `dimension` values."""

    def __init__(self, service: PineconeService, space: str, dimension: int) -> None:
        self._service, self._space, self._dimension = service, space, dimension

    def nearest(
        self, remote: RemoteIndex, query: list[float], top_k: int, condition: Mapping[str, Any] | None
    ) -> tuple[list[str], FloatArray]:
        """The results of one query: more are requested until the last of them is not tied with the cut."""
        requested = min(top_k + _BEYOND, TOP_K)
        while True:
            search = partial(remote.records.search, self._space, query, requested, condition)
            found, _ = self._service.read(search)
            scores = np.rint(np.array([score for _, score, _ in found]) * _STEPS) / _STEPS + 0.0  # no minus zero
            if len(found) < requested or requested == TOP_K or scores.min() < np.sort(scores)[-top_k]:
                break
            requested = min(4 * requested, TOP_K)
        hashed = [stored for stored, _, original in found if original is None and is_hashed(stored)]
        known = dict(zip(hashed, self.originals(remote, hashed), strict=True))
        names = [original or known.get(stored) or original_id(stored) for stored, _, original in found]
        first = sorted(range(len(names)), key=lambda row: (-scores[row], names[row]))[:top_k]
        return [names[row] for row in first], np.clip(scores[first], -1, 1).astype(np.float32)

    def fetch(self, remote: RemoteIndex, ids: Sequence[str], metadata: bool) -> dict[str, tuple[FloatArray, Record]]:
        """What exists of stored ids: vectors float32 [D] and, where wanted, metadata; in batches, several at once."""

        def fetch(batch: list[str]) -> dict[str, tuple[FloatArray, Record]]:
            return self._service.read(lambda: remote.records.fetch(self._space, batch, metadata))

        batches = remote.records.fetching(self._dimension, metadata).batches(ids)
        return {name: one for part in self.at_once(fetch, batches) for name, one in part.items()}

    def stored_ids(self, remote: RemoteIndex) -> Iterator[str]:
        """The stored ids, page by page, in the service's order."""
        token: str | None = None
        while True:
            names, token = self._service.read(partial(remote.records.page, self._space, token))
            yield from names
            if token is None:
                return

    def originals(self, remote: RemoteIndex, stored: Sequence[str]) -> list[str]:
        """The original ids of stored ones; hashed ones are looked up.

        Raises:
            RelookError: the record of a hashed one cannot be read yet.
        """
        found = self.fetch(remote, [one for one in stored if is_hashed(one)], metadata=True)
        names = []
        for one in stored:
            if is_hashed(one) and one not in found:
                raise RelookError(
                    f"{remote.host}/{self._space}: the long id {one[:60]!r}... cannot be read yet; run it again"
                )
            names.append(str(found[one][1][ORIGINAL]) if one in found else original_id(one))
        return names

    def at_once(self, work: Callable[[One], Other], items: Iterable[One]) -> list[Other]:
        """`work` of each item, in their order, by as many threads as requests are allowed at once."""
        with ThreadPoolExecutor(self._service.settings.concurrency) as pool:
            return list(pool.map(work, items))
