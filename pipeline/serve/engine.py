"""Searches of many clients at once: bounded in number, batched through the network, answered in stages.

Between `routes` and the gallery. Two threads take whatever waits, up to a batch, and describe it; a few threads
search the store and re-rank.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.errors import ImageError, RelookError
from pipeline.rerank import apply_chain
from pipeline.serve.generations import Generations, Pinned
from pipeline.serve.metrics import Metrics
from pipeline.types import Description, Ranking
from pipeline.workflow.hits import Hits
from pipeline.workflow.progress import Silent
from pipeline.workflow.query_inputs import Query
from pipeline.workflow.searching import (
    SearchOptions,
    describe_queries,
    find_candidates,
    hits_of_rankings,
    needs_of,
    search_further,
)

logger = logging.getLogger("relook")

# Threads that describe: while one decodes photos or waits for a core, the other one keeps the network busy.
_DESCRIBING = 2


class BusyError(Exception):
    """As many searches as are allowed are under way or waiting."""


class OverdueError(Exception):
    """A search did not begin within the time limit of a request."""


@dataclass(frozen=True)
class Plan:
    """How one query is searched.

    Attributes:
        query: a picture or an id.
        options: what is returned.
        rerank: names of rerankers; none: the global search alone.
        depth: candidates that each reranker scores; None: as its settings say.
        stages: whether the stages before the last one are told as well.
    """

    query: Query
    options: SearchOptions
    rerank: tuple[str, ...]
    depth: int | None = None
    stages: bool = True


@dataclass(frozen=True)
class Stage:
    """A state of a search: `name` is "global", "reranked" or "explained"; the last one is `final`."""

    name: str
    hits: Hits
    pinned: Pinned
    final: bool


@dataclass(eq=False)
class Search:
    """A search under way. `tell` is called from other threads, with each stage, or once with an error."""

    plan: Plan
    pinned: Pinned
    tell: Callable[[Stage | Exception], None]
    deadline: float
    cancelled: threading.Event = field(default_factory=threading.Event)

    def chain(self) -> list[Any]:
        """Its rerankers with their depth."""
        chain = self.pinned.gallery.chain(self.plan.rerank or None)
        return chain if self.plan.depth is None else [replace(step, top=self.plan.depth) for step in chain]


class SearchEngine:
    """Runs searches.

    Args:
        generations: which index is searched; its configuration has `queue`, `batch`, `workers` and `seconds`.
        metrics: told about batches and the queue.
    """

    def __init__(self, generations: Generations, metrics: Metrics) -> None:
        self._generations, self._metrics = generations, metrics
        settings = self._settings = generations.current.gallery.config.serve
        self._waiting: queue.SimpleQueue[Search | None] = queue.SimpleQueue()
        self._open, self._lock = 0, threading.Lock()
        self._ranking = ThreadPoolExecutor(settings.workers, thread_name_prefix="rank")
        self._describing = [
            threading.Thread(target=self._describe_all, name=f"describe {number}", daemon=True)
            for number in range(_DESCRIBING)
        ]
        for thread in self._describing:
            thread.start()

    @property
    def full(self) -> bool:
        """Whether the next search would be refused."""
        return self._open >= self._settings.queue

    @property
    def alive(self) -> bool:
        """Whether searches are being worked on."""
        return all(thread.is_alive() for thread in self._describing)

    def submit(self, plan: Plan, pinned: Pinned, tell: Callable[[Stage | Exception], None]) -> Search:
        """Begin a search; it uses `pinned`, which the caller keeps open until now.

        Raises:
            BusyError: there are too many.
        """
        with self._lock:
            if self.full:
                raise BusyError
            self._open += 1
            self._metrics.open_searches.set(self._open)
        pinned.acquire()
        search = Search(plan, pinned, tell, time.monotonic() + self._settings.seconds)
        self._waiting.put(search)
        return search

    def close(self) -> None:
        """End the threads; what waits is not begun any more."""
        for _ in self._describing:
            self._waiting.put(None)
        for thread in self._describing:
            thread.join()
        self._ranking.shutdown(cancel_futures=True)

    def _describe_all(self) -> None:
        while (first := self._waiting.get()) is not None:
            for group in self._groups([first, *self._take(self._settings.batch - 1)]):
                self._describe(group)

    def _take(self, most: int) -> list[Search]:
        """What waits, without waiting for more."""
        taken: list[Search] = []
        while len(taken) < most:
            try:
                search = self._waiting.get_nowait()
            except queue.Empty:
                break
            if search is None:  # the end, which a thread takes when it has nothing else to do
                self._waiting.put(None)
                break
            taken.append(search)
        return taken

    def _groups(self, batch: Sequence[Search]) -> list[list[Search]]:
        """Searches that are described together: of one generation, with the same parts of a description."""
        groups: dict[tuple[int, frozenset[str]], list[Search]] = {}
        for search in batch:
            try:
                if search.cancelled.is_set() or time.monotonic() > search.deadline:
                    raise OverdueError
                key = (id(search.pinned), needs_of(search.chain()))
            except Exception as error:
                self._end(search, error)
                continue
            groups.setdefault(key, []).append(search)
        return list(groups.values())

    def _describe(self, group: Sequence[Search]) -> None:
        """Describe a group and hand each search on; where the group fails, each alone, so that one fails alone."""
        gallery, needs = group[0].pinned.gallery, needs_of(group[0].chain())
        queries = [search.plan.query for search in group]
        self._metrics.batches.observe(len(group))
        try:
            found, errors = describe_queries(gallery, queries, needs, Silent(), group[0].pinned.reading)
        except Exception as error:
            if len(group) == 1:
                self._end(group[0], error)
            else:
                for search in group:
                    self._describe([search])
            return
        for number, search in enumerate(group):
            if number in found:
                self._ranking.submit(self._rank, search, found[number])
            else:
                self._end(search, ImageError(search.plan.query.name, errors[number]))

    def _rank(self, search: Search, description: Description) -> None:
        try:
            self._rank_in_stages(search, description)
        except Exception as error:
            self._end(search, error)
        else:
            self._end(search, None)

    def _rank_in_stages(self, search: Search, description: Description) -> None:
        gallery, plan, chain = search.pinned.gallery, search.plan, search.chain()
        queries, described = [plan.query], [description]
        quick = replace(plan.options, explain=False)
        candidates = find_candidates(gallery, queries, described, chain, quick)
        stages: list[tuple[str, Sequence[Any], SearchOptions]] = [("global", (), quick)]
        if chain:
            stages.append(("reranked", chain, quick))
        if chain and plan.options.explain:
            stages.append(("explained", chain, plan.options))
        rankings: list[Ranking] = []
        for number, (name, steps, options) in enumerate(stages if plan.stages else stages[-1:], start=1):
            if search.cancelled.is_set():
                return
            if name != "explained" or not rankings:
                further = search_further(gallery, queries, options)
                rankings = apply_chain(steps, described, candidates, gallery, further)
            (hits,) = hits_of_rankings(gallery, queries, described, rankings, steps, options)
            search.tell(Stage(name, hits, search.pinned, number == len(stages) or not plan.stages))

    def _end(self, search: Search, error: Exception | None) -> None:
        with self._lock:
            self._open -= 1
            self._metrics.open_searches.set(self._open)
        search.pinned.release()
        if error is not None:
            if not isinstance(error, RelookError | OverdueError):
                logger.error("a search failed: %s: %s", type(error).__name__, error, exc_info=error)
            search.tell(error)
