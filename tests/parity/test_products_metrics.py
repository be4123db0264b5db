"""Stanford Online Products: the recalls of Reranking Transformers, its exact search and its re-ranked neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import parity_ledger
import pytest

from pipeline.evaluate import by_products, nearest_neighbours, neighbours_within, reranked_neighbours

FOLDERS = parity_ledger.folders("sop_metrics*")
# Squared distances of float32 vectors of length 1: what is nearer together than this has no certain order.
NOISE = 2e-6


@pytest.mark.parametrize("folder", FOLDERS)
def test_recall_within_one_set(folder: str, official_folder: Callable[[str], Any]) -> None:
    official = official_folder(folder)
    features, labels, ks = official.inputs["features"], official.inputs["labels"], official.config["ks"]
    for name, cosine in (("cosine", True), ("l2", False)):
        rows, _ = neighbours_within(features, max(ks), cosine)
        official.agrees(f"recall_percent_{name}_f64", percent(rows, labels, labels, ks), atol=1e-12)


@pytest.mark.parametrize("folder", FOLDERS)
def test_neighbours(folder: str, official_folder: Callable[[str], Any]) -> None:
    official = official_folder(folder)
    features = official.inputs["features"]
    (name,), (distances_name,) = official.matching("nn_inds_cosine_top"), official.matching("nn_dists_cosine_top")
    count = official.outputs[name].shape[1]
    # One more, to see whether the last one is clear.
    rows, distances = neighbours_within(features, count + 1, cosine=True)
    clear = unambiguous(distances_in_double(features, rows))[:, :count]
    rows, distances = rows[:, :count], distances[:, :count]
    assert clear.mean() > 0.5
    official.equals(name, rows, where=clear)
    # Where the order is unsure, the official neighbours must still be as near as those found.
    theirs = distances_in_double(features, official.outputs[name].astype(np.intp))
    np.testing.assert_allclose(theirs, distances, atol=NOISE, rtol=0)
    count = official.outputs[distances_name].shape[1]
    official.agrees(distances_name, distances[:, :count], atol=NOISE)


@pytest.mark.parametrize("folder", FOLDERS)
def test_recall_against_a_gallery(folder: str, official_folder: Callable[[str], Any]) -> None:
    official = official_folder(folder)
    features, labels, ks = official.inputs["features"], official.inputs["labels"], official.config["ks"]
    split = official.config["query_gallery_split"]
    rows, _ = nearest_neighbours(features[:split], features[split:], max(ks), cosine=True)
    found = percent(rows, labels[:split], labels[split:], ks)
    official.agrees("recall_percent_query_gallery_cosine_f64", found, atol=1e-12)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_first_neighbour_is_dropped_blindly(folder: str, official_folder: Callable[[str], Any]) -> None:
    """Of two equal vectors the later one stays in its own list."""
    official = official_folder(folder)
    features, labels, ks = official.inputs["dup_features"], official.inputs["dup_labels"], official.config["dup_ks"]
    rows, _ = neighbours_within(features, max(ks), cosine=True)
    official.agrees("dup_recall_f64", percent(rows, labels, labels, ks), atol=1e-12)
    (name,) = official.matching("dup_nn_top")
    first, top = official.outputs[name].shape
    official.equals(name, rows[:first, :top])


@pytest.mark.parametrize("folder", FOLDERS)
def test_reranked_recall(folder: str, official_folder: Callable[[str], Any]) -> None:
    """The matcher is replaced by minus the squared distance of the local maps."""
    official = official_folder(folder)
    neighbours, labels = official.inputs["rerank_cache_nn"].astype(np.intp), official.inputs["labels"]
    depth = official.outputs["rerank_inds"].shape[1]
    maps = official.inputs["rerank_local"].reshape(len(labels), -1).astype(np.float64)
    scores = -np.square(maps[: len(neighbours), None] - maps[neighbours]).sum(axis=2)
    found = reranked_neighbours(neighbours, scores, depth)
    assert depth == min(100, neighbours.shape[1])
    in_order = np.sort(-scores[:, :depth], axis=1)
    clear = unambiguous(in_order / in_order.max())
    assert clear.mean() > 0.5
    official.equals("rerank_inds", found, where=clear)
    ks = official.config["rerank_ks"]
    official.agrees("rerank_recall_f64", percent(found, labels[: len(found)], labels, ks), atol=1e-12)


def percent(neighbours: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray, ks: list[int]) -> list[float]:
    return list(by_products(neighbours, query_labels, gallery_labels, ks).summary().values())


def distances_in_double(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Squared distances [Q, K] of each vector, made unit length, to those in its row."""
    unit = features.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return np.stack([np.square(unit[row] - unit[place]).sum(axis=1) for place, row in enumerate(rows)])


def unambiguous(ascending: np.ndarray) -> np.ndarray:
    """Where neither neighbour in the row is so near that rounding decides the order."""
    apart = np.diff(ascending, axis=1) > NOISE
    edge = np.ones((len(ascending), 1), dtype=bool)
    return np.hstack([edge, apart]) & np.hstack([apart, edge])
