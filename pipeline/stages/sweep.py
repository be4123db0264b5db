"""`evaluate --sweep`: settings of the rerankers compared on the validation split.

Beside `evaluate`. Settings that are chosen where figures are reported make the figures too good, so a sweep looks at
the split `evaluate.validation` and at no other. All combinations rank the same candidates.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline.config import Config, with_values
from pipeline.errors import UsageError
from pipeline.evaluate import Scores, paired_difference
from pipeline.stages.evaluate import bring_up_to_date
from pipeline.workflow.evaluation.measurement import measure
from pipeline.workflow.evaluation.query_sets import open_queries
from pipeline.workflow.gallery import open_gallery
from pipeline.workflow.model_loading import open_chain
from pipeline.workflow.progress import Reporter, Silent


@dataclass(frozen=True)
class SweepResult:
    """What a sweep found.

    Attributes:
        split: the validation split that was looked at.
        metric: what chooses.
        settings: one combination each, by key.
        before: of the global search.
        after: of each combination.
    """

    split: str
    protocol: str
    metric: str
    queries: int
    gallery: int
    settings: list[dict[str, Any]]
    before: Scores
    after: list[Scores]
    weights: str

    @property
    def best(self) -> int:
        """The number of the best combination; of equal ones the first."""
        means = [scores.means()[self.metric] for scores in self.after]
        return means.index(max(means))

    def to_json(self) -> dict[str, Any]:
        """Plain values, metrics in percent."""
        rows = [
            {
                "settings": settings,
                "reranked": scores.summary(),
                "difference": paired_difference(self.before, scores),
            }
            for settings, scores in zip(self.settings, self.after, strict=True)
        ]
        return {
            "split": self.split,
            "protocol": self.protocol,
            "metric": self.metric,
            "queries": self.queries,
            "gallery": self.gallery,
            "global": self.before.summary(),
            "rows": rows,
            "best": rows[self.best],
            "weights": self.weights,
        }


def sweep(
    config: Config,
    axes: Sequence[str],
    images: str | None = None,
    queries: str | None = None,
    reporter: Reporter | None = None,
) -> SweepResult:
    """Measure every combination.

    Args:
        config: as of `evaluate`.
        axes: "KEY=v1,v2,..." each, with keys of the section rerank.
        images, queries, reporter: as of `evaluate`.

    Raises:
        UsageError: a split other than the validation split is given, or an axis is not a list of known settings.
        RelookError: as `evaluate`.
    """
    reporter = reporter or Silent()
    split = _validation_only(config)
    grid = _combinations(axes)
    config = with_values(config, {"evaluate.split": split}, "--sweep")
    if images is not None:
        config = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"dataset": images})})
    combinations = [with_values(config, settings, "--sweep") for settings in grid]
    bring_up_to_date(config, reporter)
    gallery = open_gallery(config, partial="error")
    cards = gallery.index.card, gallery.index.keypoints_card, gallery.locals_card
    chains = [open_chain(one, *cards) for one in combinations]
    needs = {need for chain in chains for step in chain for need in step.reranker.needs}
    query_set = open_queries(config, gallery, needs, config.evaluate.dataset, queries)
    measured = measure(gallery, chains, query_set, reporter)
    return SweepResult(
        split,
        query_set.protocol.name,
        query_set.protocol.headline,
        len(measured.numbers) - measured.before.unscored,
        query_set.size,
        grid,
        measured.before,
        measured.after,
        gallery.index.card.weights,
    )


def _validation_only(config: Config) -> str:
    wanted, allowed = config.evaluate.split, config.evaluate.validation
    if wanted not in (None, allowed):
        raise UsageError(
            f"--sweep looks at the validation split {allowed!r} alone, not at {wanted!r}: settings chosen where "
            "figures are reported make them too good (evaluate.validation names another validation split)"
        )
    return allowed


def _combinations(axes: Sequence[str]) -> list[dict[str, Any]]:
    values: dict[str, list[Any]] = {}
    for axis in axes:
        key, equals, text = (part.strip() for part in axis.partition("="))
        if not equals or not key.startswith("rerank."):
            raise UsageError(
                f"--sweep {axis}: expected KEY=v1,v2 with a key of rerank, such as rerank.rrt.weight=0,0.5"
            )
        try:
            values[key] = yaml.safe_load(f"[{text}]")
        except (yaml.YAMLError, ValueError, RecursionError):
            raise UsageError(f"--sweep {axis}: the values are not a list, such as 0,0.25,0.5") from None
        if not values[key]:
            raise UsageError(f"--sweep {axis}: there is no value")
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]
