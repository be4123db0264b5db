"""The gallery: what `relook.open` returns, Python users keep and verbs use. Its calls search, evaluate and list images.

A gallery sees one generation of its index from beginning to end; `opened_index.py` opens that and loads what is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from pipeline.config import Config, expand_argument
from pipeline.config.loading import with_values
from pipeline.errors import ImageError, RelookError, UsageError
from pipeline.stores import GlobalStore, Index
from pipeline.types import FloatArray
from pipeline.workflow.bucket_index import local_copy
from pipeline.workflow.hits import Hits
from pipeline.workflow.opened_index import OpenedIndex, check_store
from pipeline.workflow.progress import Reporter, Silent
from pipeline.workflow.rerank_chain import Rerank

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.workflow.evaluation.result import EvaluateResult
    from pipeline.workflow.query_inputs import Query


class Gallery(OpenedIndex):
    """One generation of an index, ready to be searched; see `OpenedIndex` for the arguments.

    Use it as a context manager, or call `close`. Safe to use from several threads.
    """

    @overload
    def search(
        self,
        image: Sequence[Any],
        *,
        top_k: int | None = ...,
        where: Mapping[str, str | Sequence[str]] | None = ...,
        rerank: Rerank = ...,
        min_score: float | None = ...,
        skip_itself: bool | None = ...,
        explain: bool = ...,
        like: Sequence[str] = ...,
        unlike: Sequence[str] = ...,
    ) -> list[Hits]: ...
    @overload
    def search(
        self,
        image: Any = None,
        *,
        id: str | None = ...,
        top_k: int | None = ...,
        bbox: Sequence[float] | None = ...,
        where: Mapping[str, str | Sequence[str]] | None = ...,
        rerank: Rerank = ...,
        min_score: float | None = ...,
        skip_itself: bool | None = ...,
        explain: bool = ...,
        like: Sequence[str] = ...,
        unlike: Sequence[str] = ...,
    ) -> Hits: ...
    def search(
        self,
        image: Any = None,
        *,
        id: str | None = None,
        top_k: int | None = None,
        bbox: Sequence[float] | None = None,
        where: Mapping[str, str | Sequence[str]] | None = None,
        rerank: Rerank = "default",
        min_score: float | None = None,
        skip_itself: bool | None = None,
        explain: bool = False,
        like: Sequence[str] = (),
        unlike: Sequence[str] = (),
    ) -> Hits | list[Hits]:
        """Which images of the index show the same thing as this one?

        Args:
            image: a path (str or Path), an encoded picture (bytes), a Pillow image, or an array [H, W, 3] of uint8,
                RGB, upright; or a list of these, which are described in batches.
            id: of an image of the index, in place of `image`: its stored descriptors are the query.
            top_k: how many hits at most; None: `search.top_k` of the configuration.
            bbox: x0, y0, x1, y1 in pixels of the upright picture: only this part of `image` is the query.
            where: only images with one of these values, such as {"label": ["a", "b"]}; keys: label, path, split.
            rerank: names of rerankers, "superglobal" or "a,b" or a list; None or "none" for the global search alone;
                "default": `rerank.chain` where it is set, else what the index names, else that setting's default.
            min_score: leave out hits with a lower score.
            skip_itself: leave out the query's own image, by its file or id; None: `search.skip_itself`.
            explain: have `Hit.reasons` say why each reranker scored a hit as it did; takes longer.
            like, unlike: ids of images of the index that the query moves towards and away from: relevance feedback
                (`search.like_weight` and `unlike_weight`). Without `image` and `id`, `like` is the query.

        Returns:
            The hits; for a list of pictures a list, in its order.

        Raises:
            UsageError: an argument is not what it should be.
            ImageError: a picture cannot be read.
            RelookError: the id is unknown; the index, the store or a reranker cannot be used; the gallery is closed.
        """
        from pipeline.workflow.query_inputs import Query, query_of, with_feedback

        several = isinstance(image, list | tuple)
        if (image is None) == (id is None) and not (like and image is None):
            raise UsageError("search: give an image or an id, and not both")
        if bbox is not None and (several or image is None):
            raise UsageError("search: bbox belongs to one image, not to a list or an id")
        if id is not None:
            queries = [Query(id, id=id)]
        elif several:
            queries = [_named(query_of, one, n) for n, one in enumerate(image)]
        else:
            queries = [] if image is None else [query_of(image, bbox)]
        queries = with_feedback(queries, like, unlike) if queries or image is None else []
        found = self.search_queries(
            queries,
            top_k=top_k,
            where=where,
            rerank=rerank,
            min_score=min_score,
            skip_itself=skip_itself,
            explain=explain,
        )
        for number, hits in enumerate(found):
            if hits.error:
                raise ImageError(f"image {number}, {hits.query}" if several else hits.query, hits.error)
        return found if several else found[0]

    def search_queries(
        self,
        queries: Sequence[Query],
        *,
        top_k: int | None = None,
        where: Mapping[str, str | Sequence[str]] | None = None,
        rerank: Rerank = "default",
        min_score: float | None = None,
        skip_itself: bool | None = None,
        explain: bool = False,
        reporter: Reporter | None = None,
    ) -> list[Hits]:
        """`search` for queries of any kind together; one that cannot be read has `Hits.error` and ends nothing."""
        from pipeline.workflow.query_inputs import checked_filter
        from pipeline.workflow.searching import SearchOptions, run_queries

        settings = self.config.search
        self._check_open()
        if not queries:
            raise UsageError("search: no images were given")
        if top_k is not None and (not isinstance(top_k, int) or top_k < 1):
            raise UsageError(f"top_k = {top_k!r}: must be a whole number, at least 1")
        options = SearchOptions(
            top_k=top_k or settings.top_k,
            where=checked_filter(where),
            min_score=min_score,
            skip_itself=settings.skip_itself if skip_itself is None else skip_itself,
            explain=explain,
        )
        return run_queries(self, queries, self.chain(rerank), options, reporter or Silent())

    def evaluate(
        self,
        images: str | None = None,
        *,
        queries: str | None = None,
        split: str | None = None,
        protocol: str | None = None,
        rerank: Rerank = "default",
        reporter: Reporter | None = None,
    ) -> EvaluateResult:
        """The metrics of the global search and of the re-ranked results. The index is left as it is.

        Args:
            images: a manifest, a folder or NAME:FOLDER that says what is relevant; None: the labels of the index.
            queries: photos with labels; None: the data set's own queries, or every labelled image of the gallery.
            split: only images of this split; None: `evaluate.split`.
            protocol: of `pipeline.evaluate`; None: `evaluate.protocol`, or that of the data set.
            rerank: see `search`.
            reporter: told about the progress.

        Raises:
            UsageError: no such protocol, or it is not one for this data set.
            RelookError: images are not in the index, the store lacks vectors of it, or nothing can be scored.
        """
        from pipeline.workflow.evaluation.result import evaluate_gallery

        self._check_open()
        check_store(self.config.store.kind, self.index, self.store, "error")
        given = {"dataset": images, "split": split, "protocol": protocol}
        values: dict[str, Any] = {f"evaluate.{key}": value for key, value in given.items() if value is not None}
        chain = self.chain(rerank)
        values["rerank.chain"] = [step.name for step in chain]
        config = with_values(self.config, values, "evaluate")
        queries = queries and expand_argument(queries)
        return evaluate_gallery(self, chain, config, queries, reporter or Silent())

    def __len__(self) -> int:
        """How many images there are."""
        return self.index.manifest.counts["images"]

    def __repr__(self) -> str:
        manifest = self.index.manifest
        return f"<Gallery {self.config.index}: {len(self)} images, generation {manifest.generation}>"

    def vectors(self) -> tuple[list[str], FloatArray]:
        """The ids (N) and the global descriptors [N, D] float32, rows of unit length, in the order of the catalog."""
        own = GlobalStore(self.index)
        if not own.complete:
            ids = list(self.index.records)
            return ids, self.store.fetch(ids)
        rows = self.index.vector_rows
        matrix = np.empty(rows.shape, np.float32)
        rows.read_all(matrix)
        return self.index.vector_ids.at(np.arange(len(rows))), matrix

    def to_pandas(self) -> pd.DataFrame:
        """The catalog: one row per image with the columns of `ImageRecord`; `bbox` is a tuple or None."""
        frame = self.index.catalog().to_pandas()
        frame["bbox"] = [tuple(map(float, text.split())) if text else None for text in frame["bbox"]]
        return frame

    def newest(self) -> Gallery:
        """The gallery of the newest generation: itself where that is open, else another one with the same models."""
        newest = Index(local_copy(self._given).index).manifest
        if (newest.generation, newest.updated) == (self.index.manifest.generation, self.index.manifest.updated):
            return self
        return Gallery(self._given, partial=self._partial, like=self)


def open_gallery(config: Config, *, searched: bool = True, partial: Literal["warn", "error"] = "warn") -> Gallery:
    """Open the index and its store at once.

    Args:
        config: `index` and `store` matter here.
        searched: whether candidates will come from the store; False: it may still have to be synced.
        partial: whether a store that lacks vectors of the index is a warning or an error.

    Raises:
        RelookError: there is no index, it or the store is damaged, or one of them is empty.
    """
    gallery = Gallery(config, partial=partial if searched else "ignore")
    _ = gallery.store
    return gallery


def _named(make: Any, image: Any, number: int) -> Query:
    """The query of one of several pictures: an error says which one."""
    try:
        query: Query = make(image)
    except ImageError as error:
        raise ImageError(f"image {number}, {error.path}", error.reason) from None
    except RelookError as error:
        raise type(error)(f"image {number}: {error}") from None
    return query
