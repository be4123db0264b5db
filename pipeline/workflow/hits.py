"""What a search returns: the hits of one query, as objects, a table, a DataFrame or part of a notebook.

Made by `Gallery.search`, written by `relook search`. pandas and pictures are loaded when they are wanted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, overload

from pipeline.files import visible
from pipeline.types import Box, Explanation

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ("rank", "id", "path", "label", "split", "score", "global_rank", "global_score")
# Thumbnails of a notebook's table, and their largest side in pixels.
_SHOWN = 50
_SIDE = 96


@dataclass(frozen=True)
class Hit:
    """One result.

    Attributes:
        rank: from 1, after re-ranking.
        id: of the image in the index.
        path: where its photo lies.
        label: what it shows; "" if unknown.
        split: the part of the data set that it belongs to, "" where there is one part only.
        score: what hits are sorted by: the cosine similarity of the global descriptors in [-1, 1], or, of the first
            candidates, that similarity fused with the rerankers' scores.
        global_rank, global_score: from 1, and the cosine similarity, before re-ranking.
        explanation: each reranker's own score; NaN for a hit beyond the candidates that it re-ranks.
        reasons: why, by reranker, where that was requested: see `pipeline.types.Explanation`.
    """

    rank: int
    id: str
    path: str
    label: str
    split: str
    score: float
    global_rank: int
    global_score: float
    explanation: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, Explanation] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with null for NaN; the keys are those of `relook search --json`."""
        return {
            "rank": self.rank,
            "id": self.id,
            "path": self.path,
            "label": self.label,
            "score": self.score,
            "global_rank": self.global_rank,
            "global_score": self.global_score,
            **{name: None if math.isnan(value) else value for name, value in self.explanation.items()},
            **({"explanation": {name: one.to_json() for name, one in self.reasons.items()}} if self.reasons else {}),
        }


@dataclass(frozen=True, repr=False)
class Hits(Sequence[Hit]):
    """The hits of one query, best first: a sequence of `Hit`.

    Attributes:
        query: the file, the id, or what kind of picture it was, such as "<array>".
        hits: the results.
        label: of the query, where a manifest or the index has one.
        rerank: the rerankers that were applied, in order.
        weights: of the describer, as on the model card; whether they are random is said wherever hits are shown.
        error: why the query could not be searched; "" where it could.
        path: where the query's photo lies; "" where it is no file.
        bbox: x0, y0, x1, y1 in pixels of the upright photo: the part that was searched with. None: all of it.
    """

    query: str
    hits: tuple[Hit, ...] = ()
    label: str = ""
    rerank: tuple[str, ...] = ()
    weights: str = ""
    error: str = ""
    path: str = ""
    bbox: Box | None = None

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, number: int) -> Hit: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Hit]: ...
    def __getitem__(self, number: int | slice) -> Hit | Sequence[Hit]:
        """A hit, or several as a tuple."""
        return self.hits[number]

    @property
    def ids(self) -> list[str]:
        """The ids of the hits."""
        return [hit.id for hit in self.hits]

    def to_json(self) -> dict[str, Any]:
        """Plain values: one entry of "queries" in the document of `relook search --json`."""
        if self.error:
            return {"query": self.query, "error": self.error, "results": []}
        return {
            "query": self.query,
            "path": self.path,
            "bbox": None if self.bbox is None else list(self.bbox),
            "label": self.label,
            "results": [hit.to_json() for hit in self.hits],
        }

    def to_pandas(self) -> pd.DataFrame:
        """One row per hit: the attributes of `Hit`, and one column per reranker."""
        import pandas as pd

        rows = [{name: getattr(hit, name) for name in _COLUMNS} | hit.explanation for hit in self.hits]
        return pd.DataFrame(rows, columns=[*_COLUMNS, *self.rerank])

    def __repr__(self) -> str:
        """A plain table."""
        lines = [self._title(), *([f"  {self.error}"] if self.error else [])]
        if self.hits:
            lines.append(f"{'#':>4} {'was':>5} {'score':>7} {'global':>7}  label / id")
        for hit in self.hits:
            name = f"{hit.label}  {hit.id}" if hit.label else hit.id
            lines.append(f"{hit.rank:>4} {hit.global_rank:>5} {hit.score:>7.3f} {hit.global_score:>7.3f}  {name}")
        return "\n".join(map(visible, lines))

    def _repr_html_(self) -> str:
        """A table with thumbnails, for notebooks; the pictures are part of it."""
        from pipeline.imaging import thumbnail

        if self.error:
            return f"<p>{escape(self._title())}: {escape(self.error)}</p>"
        head = "".join(f"<th>{name}</th>" for name in ("#", "photo", "score", "was", "label", "id"))
        rows = []
        for hit in self.hits:
            source = thumbnail(hit.path, side=_SIDE) if hit.rank <= _SHOWN else ""
            picture = f'<img src="{source}" alt="{escape(hit.id)}">' if source else ""
            cells = (str(hit.rank), picture, f"{hit.score:.3f}", str(hit.global_rank))
            texts = (escape(hit.label), escape(hit.id))
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in (*cells, *texts)) + "</tr>")
        return (
            f"<p>{escape(self._title())}</p><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        )

    def _title(self) -> str:
        chain = f"re-ranked with {', '.join(self.rerank)}" if self.rerank else "global search"
        random = f"; {self.weights}: the order means nothing" if self.weights.startswith("random") else ""
        return f"{len(self.hits)} hits of {self.query} ({chain}{random})"
