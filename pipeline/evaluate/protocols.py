"""The protocols by name: what each looks at, and how it scores.

What `evaluate --protocol` picks from. A new protocol is a function from judged rankings to scores in a file of this
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
    """One way to score.

    Attributes:
        name: as `--protocol` and `GroundTruth.protocol` write it.
        groups: the names of `GroundTruth.groups` that it reads. Those of ("positive",) are also made from labels.
        depth: how many answers of each query it looks at; None: all.
        headline: the metric that is meant when one number is reported.
        score: from judged rankings to the metrics of each query; raises RelookError when nothing can be scored.
        reads_labels: whether it asks for what the first answers show, instead of where known ids stand.
        lists: by the ending of a metric's name, the groups that are taken out before re-ranking, which then has a
            list of its own for the metrics with that ending; empty: one list for all.
    """

    name: str
    groups: tuple[str, ...]
    depth: int | None
    headline: str
    score: Callable[[Sequence[RankedRelevance]], Scores]
    reads_labels: bool = False
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def score_lists(self, judged: Mapping[str, Sequence[RankedRelevance]]) -> Scores:
        """The scores of re-ranked results with `lists`, or with the one list ""."""
        if not self.lists:
            return self.score(judged[""])
        columns: dict[str, FloatValues] = {}
        for ending, items in judged.items():
            scores = self.score(items).per_query
            columns |= {name: values for name, values in scores.items() if name.endswith(ending)}
        return Scores(columns)


# What a setup of Revisited Oxford and Paris ignores, CVNet, RRT and AMES do not count among the first 100 either; see
# `published`, to whose orders this is equal in every figure.
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
