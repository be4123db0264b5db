"""Validation: no step goes over all records for each label; the cautious rule of the weight against a plain loop."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import load_config
from pipeline.evaluate import Scores
from pipeline.types import Description, ImageRecord
from pipeline.workflow.training.held_out_retrieval import HeldOutRetrieval
from pipeline.workflow.training.reranker_validation import Fused, RerankerValidator, most_cautious

LABELS = 100_000


def test_queries_of_many_labels_are_found_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """One comparison of every pair would take hours; this asserts on the work, not on a clock that may be slow."""
    started = time.process_time()
    labels = [str(row // 2) for row in range(2 * LABELS)] + ["alone", ""]
    records = [ImageRecord(str(row), "", label) for row, label in enumerate(labels)]
    assert len(HeldOutRetrieval([record.id for record in records], labels).queries) == 2 * LABELS
    monkeypatch.setattr(RerankerValidator, "_as_stored", lambda self: None)
    made = RerankerValidator(
        cast(Any, None), records, "rrt", cast(Any, SimpleNamespace(reranker=None)), load_config(overrides=["seed=1"])
    )
    assert made.count == load_config().train_rerank.validation_queries
    assert time.process_time() - started < 60


def test_images_that_are_searched_too_are_no_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out images query them, and are found among them."""
    held_out = [ImageRecord(str(row), "", str(row // 2)) for row in range(6)]
    among = [ImageRecord(str(row), "", str(row // 2)) for row in range(6, 20)]
    searched = []
    vectors = np.eye(20, dtype=np.float32)
    source = SimpleNamespace(
        index=SimpleNamespace(records={record.id: record for record in [*held_out, *among]} | {"none": None}),
        describe=lambda ids, needs: [Description(vectors[int(name)], None) for name in ids],
        store=SimpleNamespace(query=lambda asked, top: [([*map(str, range(20)), "none"], np.zeros(21))] * len(asked)),
    )
    monkeypatch.setattr(RerankerValidator, "_held_out", lambda self, queries, found, store: searched.extend(found.ids))
    recipe = SimpleNamespace(reranker=SimpleNamespace(needs=frozenset()))
    made = RerankerValidator(cast(Any, source), held_out, "rrt", cast(Any, recipe), load_config(), among)
    assert made.count == 6
    assert searched == [[str(row) for row in range(20) if row != own] for own in range(6)]


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(0, 999))
def test_the_cautious_weight_is_the_largest_within_a_standard_error(queries: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    results = []
    for weight in np.linspace(0, 1, 6):
        precision, first = random.random(queries), random.integers(0, 2, queries).astype(float)
        scores = Scores({"mAP": precision, "R@1": first})
        results.append(Fused(scores, scores.summary(), float(weight), 0.25))
    best = max(results, key=lambda one: one.summary["mAP"])
    least = float(random.random() * 100)
    allowed = [best]
    for one in results:
        difference = 100 * (best.scores.per_query["mAP"] - one.scores.per_query["mAP"])
        error = round(float(difference.std(ddof=1)) / queries**0.5, 2)
        enough = one.summary["R@1"] >= min(least, best.summary["R@1"])
        if enough and best.summary["mAP"] - one.summary["mAP"] <= error:
            allowed.append(one)
    assert most_cautious(results, best, least).weight == max(one.weight for one in allowed)
