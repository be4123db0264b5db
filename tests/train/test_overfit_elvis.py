"""Where `elvis` starts, and its overfit proof; `overfitting.overfit` asserts it."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from overfitting import overfit
from torch.nn import functional

from pipeline.rerank.elvis.network import ELViSNetwork, ELViSShape
from pipeline.train.init.elvis import start_centred, start_voting

QUICK = ["epochs=1", "triplets=4800", "batch_size=32", "learning_rate=1e-2", "average=0.9", "weight_decay=0"]
LOCALS = ["elvis.least_locals=16", "elvis.query_locals=16", "elvis.gallery_locals=16"]


def cells(count: int, width: int, seed: int) -> np.ndarray:
    """Unit vectors as after a ReLU: all of them near a common mean."""
    values = np.maximum(3 + np.random.default_rng(seed).standard_normal((count, width)), 0)
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)


def test_elvis_learns_eight_things_by_heart() -> None:
    overfit("elvis", [*QUICK, *LOCALS], ["locals.count=16"])


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 12), st.integers(2, 12), st.integers(0, 99))
def test_the_centred_start_is_a_pca(width: int, kept: int, seed: int) -> None:
    torch.manual_seed(seed)
    network, samples = ELViSNetwork(ELViSShape(width, kept, 4, 4)), cells(60, width, seed)
    start_voting(network)
    start_centred(network, samples)
    linear = network.remap_local[0]
    with torch.no_grad():
        projected = linear(torch.from_numpy(samples)).double().numpy()
    count = min(width, kept)
    np.testing.assert_allclose(projected.mean(axis=0), 0, atol=1e-6)
    directions = linear.weight[:count].detach().numpy()
    np.testing.assert_allclose(directions @ directions.T, np.eye(count), atol=1e-5)
    variances = np.linalg.eigvalsh(np.cov(samples.T, bias=True))[::-1][:count]
    np.testing.assert_allclose(np.cov(projected[:, :count].T, bias=True), np.diag(variances), atol=1e-6)
    assert not projected[:, count:].any()


def test_from_the_centred_start_cells_have_different_cosines() -> None:
    samples, spread = cells(200, 64, 0), {}
    for start in ("paper", "centred"):
        torch.manual_seed(0)
        network = ELViSNetwork(ELViSShape(64, 32, 4, 4))
        start_voting(network)
        if start == "centred":
            start_centred(network, samples)
        with torch.no_grad():
            units = functional.normalize(network.begin(torch.from_numpy(samples))[:, :-1], dim=1)
        spread[start] = float((units @ units.T).std())
    assert spread["centred"] > 2 * spread["paper"]
