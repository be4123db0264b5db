"""`calibrate`: weights, margins and calibrations of a chain of rerankers, from the labelled images of an index.

Between extract and search, like training, and without a network of its own. What is chosen lies with the index;
searches and evaluations with the same chain use it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config import Config, with_values
from pipeline.config.run import TEST_SPLITS
from pipeline.errors import UsageError
from pipeline.rerank import RerankStep
from pipeline.stages.evaluate import bring_up_to_date
from pipeline.workflow.calibration.pairs import collect_pairs
from pipeline.workflow.calibration.tuning import Outcome, check_enough, fit_chain, held_out, replay
from pipeline.workflow.fusion.application import measured_settings
from pipeline.workflow.fusion.fusion_file import Fusion, StepFusion, fusion_path, remove_fusion, write_fusion
from pipeline.workflow.gallery import open_gallery
from pipeline.workflow.progress import Reporter, Silent


@dataclass(frozen=True)
class CalibrateResult:
    """What was found.

    Attributes:
        file: that was written; None where the held-out labels say that it would make rankings worse.
        chain: the rerankers.
        queries, labels: that were looked at.
        global_, before, after: of the global search, of the chain as it is configured, of what was found.
        held_out: of fits, on labels that they were not fitted on.
        difference: of the mAP of `held_out` to `before`, in points, and its standard error.
        steps: by reranker: "weight", "margin", "kind" of calibration, "pairs" fitted on.
    """

    file: str | None
    chain: list[str]
    queries: int
    labels: int
    global_: Outcome
    before: Outcome
    after: Outcome
    held_out: Outcome
    difference: tuple[float, float]
    steps: list[dict[str, Any]]
    weights: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, metrics in percent."""
        difference, error = self.difference
        return {
            "file": self.file,
            "chain": self.chain,
            "queries": self.queries,
            "labels": self.labels,
            "global": _summary(self.global_),
            "before": _summary(self.before),
            "after": _summary(self.after),
            "held_out": {**_summary(self.held_out), "difference": round(difference, 2), "se": round(error, 2)},
            "steps": self.steps,
            "weights": self.weights,
        }


def calibrate(
    config: Config, images: str | None = None, queries: str | None = None, reporter: Reporter | None = None
) -> CalibrateResult:
    """Fit and keep the fusion of the chain of `config`.

    Args:
        config, images, queries, reporter: as of `evaluate`.

    Raises:
        UsageError: there is no reranker, the split is one that figures are reported on, or as `evaluate`.
        RelookError: labels are too few; or as `evaluate`.
    """
    reporter = reporter or Silent()
    if config.evaluate.split in TEST_SPLITS:
        raise UsageError(
            f"--split {config.evaluate.split}: figures are reported on that split, not chosen; give another one"
        )
    given = {"rerank.calibration": "none", **({} if images is None else {"evaluate.dataset": images})}
    config = with_values(config, given, "calibrate")
    bring_up_to_date(config, reporter)
    with open_gallery(config, partial="error") as gallery:
        chain, index = gallery.chain(), gallery.index
        if not chain:
            raise UsageError("calibrate: there is no reranker; give --rerank NAME[,NAME]")
        lists = collect_pairs(config, gallery, chain, queries, reporter)
        check_enough(lists, chain, str(config.index))
        before = replay(chain, lists)
        fitted, counts = fit_chain(chain, lists)
        outside = held_out(chain, lists, config.seed)
        change = 100 * (outside.precision - before.precision)
        gain, error = float(change.mean()), float(change.std(ddof=1) / np.sqrt(len(change)))
        settings = [measured_settings(config, index, step.name) for step in chain]
        fusion = Fusion(index.card.fingerprint, tuple(map(_kept, fitted, settings, counts)))
        after, kept = replay(fitted, lists), gain >= -error
        if kept:
            write_fusion(config.index, fusion)
        return CalibrateResult(
            str(fusion_path(config.index)) if kept else None,
            [step.name for step in chain],
            len(lists),
            len({one.label for one in lists}),
            replay((), lists),
            before,
            after,
            outside,
            (gain, error),
            [_shown(step) for step in fusion.steps],
            index.card.weights,
        )


def remove(config: Config) -> dict[str, Any]:
    """Remove what was found: "file", and whether there was one ("removed"). Raises RelookError when it cannot."""
    return {"file": str(fusion_path(config.index)), "removed": remove_fusion(config.index)}


def _kept(step: RerankStep, settings: Mapping[str, Any], pairs: int) -> StepFusion:
    return StepFusion(step.name, settings, step.weight, step.margin, step.incoming, step.own, pairs)


def _shown(step: StepFusion) -> dict[str, Any]:
    return {
        "name": step.name,
        "weight": step.weight,
        "margin": step.margin,
        "kind": "none" if step.own is None else step.own.kind,
        "pairs": step.pairs,
    }


def _summary(outcome: Outcome) -> dict[str, Any]:
    means: Sequence[float] = (float(outcome.precision.mean()), float(outcome.first.mean()))
    return {"mAP": round(100 * means[0], 2), "R@1": round(100 * means[1], 2), "pairs": outcome.pairs}
