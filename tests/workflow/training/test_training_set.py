"""What `train-rerank` reads of an index: complete labels, or groups, which say nothing of photos near to them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.stores.exact.named_vectors import NamedVectors
from pipeline.types import ImageRecord
from pipeline.workflow.training.adaptation import unit
from pipeline.workflow.training.training_set import labelled_images, make_training_set

# Forty photos on an arc, the next one always the nearest; groups of four, and every tenth photo in none.
COUNT = 40
LABELS = ["" if row % 10 == 9 else f"group {row // 4}" for row in range(COUNT)]


@pytest.fixture
def gallery() -> Any:
    """An index of these photos, in memory."""
    angles = np.linspace(0, 1, COUNT) ** 1.1
    vectors = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32))
    records = {f"{row:02}": ImageRecord(f"{row:02}", f"{row}.jpg", label) for row, label in enumerate(LABELS)}
    return SimpleNamespace(
        index=SimpleNamespace(records=records, card=None),
        store=NamedVectors(list(records), vectors),
        globals=lambda ids: vectors[[int(name) for name in ids]],
    )


def test_complete_labels_take_every_other_photo_for_a_candidate(gallery: Any) -> None:
    records, labels, vectors = labelled_images(gallery, None)
    assert labels == LABELS
    found = make_training_set(gallery, records, vectors, np.arange(COUNT)).candidates(5, None)
    assert found[20].tolist()[:1] in ([19], [21])
    assert {len(rows) for rows in found} == {5}


def test_near_photos_of_other_groups_are_no_candidates_of_a_group(gallery: Any) -> None:
    records, labels, vectors = labelled_images(gallery, None, groups=True)
    assert labels == [label for label in LABELS if label]
    training_set = make_training_set(gallery, records, vectors, np.arange(len(records)), groups=True)
    assert "" not in training_set.labels
    spared = round(0.1 * len(records))
    similarity = vectors @ vectors.T
    for own, rows in enumerate(training_set.candidates(len(records), None)):
        order = [row for row in np.argsort(-similarity[own], kind="stable").tolist() if row != own]
        expected = [row for place, row in enumerate(order) if place >= spared or labels[row] == labels[own]]
        assert rows.tolist() == expected
        assert len(expected) < len(order)
    half = np.arange(len(records)) % 2
    assert all((half[rows] == half[own]).all() for own, rows in enumerate(training_set.candidates(5, half)))
