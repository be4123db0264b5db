"""`search --tsv`: one tab-separated line per hit, for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TextIO

from pipeline.files import visible

# Of a hit as one line; each reranker's own score follows.
_COLUMNS = ("rank", "id", "path", "label", "score", "global_rank", "global_score")


def write_hits(stream: TextIO, result: Mapping[str, Any]) -> None:
    """Write a `search` document as tab-separated lines: names of columns, then one line per hit.

    Backslashes and control characters of a value are escaped: \\\\, \\t, \\n, \\x1b. A score that a reranker did not
    give is empty.
    """
    columns = ["query", *_COLUMNS, *result["rerank"]]
    stream.write("\t".join(columns) + "\n")
    for query in result["queries"]:
        for hit in query["results"]:
            values = [query["query"], *(hit[name] for name in columns[1:])]
            stream.write("\t".join("" if value is None else _one_line(value) for value in values) + "\n")


def _one_line(value: Any) -> str:
    return visible(str(value).replace("\\", r"\\"))
