"""The protocols by name: what each reads of a ranking, and how it scores.

The choices of `evaluate --protocol`. A new protocol is a function from `RankedRelevance` to `Scores` in a file of this
room, and one entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from pipeline.errors import unknown_name
from pipeline.evaluate.gldv2 import score_landmark_recognition, score_landmark_retrieval
from pipeline.evaluate.ilias import score_instances
from pipeline.evaluate.labels import score_labels
from pipeline.evaluate.metrics import FloatValues, Scores
from pipeline.evaluate.products import score_products
from pipeline.evaluate.ranked_relevance import RankedRelevance
from pipeline.evaluate.revisited import score_revisited


@dataclass(frozen=True)
class BenchmarkProtocol:
    """One protocol.

    Attributes:
        name: for `--protocol` and `GroundTruth.protocol`.
        groups: the names of `GroundTruth.groups` that it reads. The group "positive" can also be made from labels.
        depth: how many results of each query are scored; None: all.
        headline: the metric to report as one number.
        score: the metrics of each query; raises RelookError when nothing can be scored.
        reads_labels: whether it scores the labels of the first results, instead of the places of relevant ids.
        lists: by the ending of a metric's name, the groups that are removed before re-ranking; the metrics with that
            ending are computed on this separate ranking. Empty: one ranking for all metrics.
    """

    name: str
    groups: tuple[str, ...]
    depth: int | None
    headline: str
    score: Callable[[Sequence[RankedRelevance]], Scores]
    reads_labels: bool = False
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def score_lists(self, ranked: Mapping[str, Sequence[RankedRelevance]]) -> Scores:
        """The scores of re-ranked results with `lists`, or with the one list ""."""
        if not self.lists:
            return self.score(ranked[""])
        columns: dict[str, FloatValues] = {}
        for ending, items in ranked.items():
            scores = self.score(items).per_query
            columns |= {name: values for name, values in scores.items() if name.endswith(ending)}
        return Scores(columns)


# CVNet, RRT and AMES do not count images that a setup ignores among the first 100; see `official.rerank_orders`, whose
# orders give the same figures.
_PUBLISHED_LISTS = {"_E": ("hard", "junk"), "_M": ("junk",), "_H": ("easy", "junk")}

_ALL = (
    BenchmarkProtocol("labels", ("positive",), None, "mAP", score_labels),
    BenchmarkProtocol("revisited", ("easy", "hard", "junk"), None, "mAP_M", score_revisited),
    BenchmarkProtocol(
        "revisited_published", ("easy", "hard", "junk"), None, "mAP_M", score_revisited, lists=_PUBLISHED_LISTS
    ),
    BenchmarkProtocol("gldv2", ("positive",), 100, "mAP@100", score_landmark_retrieval),
    BenchmarkProtocol("gldv2_recognition", ("label",), 100, "uAP", score_landmark_recognition, reads_labels=True),
    BenchmarkProtocol("products", ("positive",), 1000, "R@1", partial(score_products, ks=(1, 10, 100, 1000))),
    BenchmarkProtocol("classes", ("positive",), 8, "R@1", partial(score_products, ks=(1, 2, 4, 8))),
    BenchmarkProtocol("ilias", ("positive",), 1000, "mAP@1k", score_instances),
)
PROTOCOLS = {protocol.name: protocol for protocol in _ALL}


def protocol_named(name: str) -> BenchmarkProtocol:
    """The protocol of that name. Raises UsageError, with the nearest one, when there is none."""
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
