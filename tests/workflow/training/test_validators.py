"""Validation scales with the number of labels: no step goes over all records for each of them."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.config import load_config
from pipeline.types import ImageRecord
from pipeline.workflow.training.held_out_retrieval import HeldOutRetrieval
from pipeline.workflow.training.reranker_validation import RerankerValidator

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
