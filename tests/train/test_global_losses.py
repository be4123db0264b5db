"""Losses of training a global descriptor, the queue, and the momentum encoder."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from pipeline.config import ClassificationConfig, ContrastConfig
from pipeline.train.global_descriptor.losses import CurricularFace, classification, with_margin
from pipeline.train.global_descriptor.momentum import DescriptorQueue, MomentumContrast, MomentumEncoder


@given(st.floats(-1, 1), st.floats(0, 1))
def test_a_margin_is_added_to_the_angle_and_never_helps(cosine: float, margin: float) -> None:
    turned = float(with_margin(torch.tensor([cosine], dtype=torch.float64), margin))
    assert turned <= cosine + 1e-3
    if math.acos(max(-1.0, min(1.0, cosine))) + margin < math.pi - 1e-3 and abs(cosine) < 1 - 1e-6:
        assert turned == pytest.approx(math.cos(math.acos(cosine) + margin), abs=1e-6)


def test_curricularface_is_what_the_paper_writes() -> None:
    torch.manual_seed(0)
    loss = CurricularFace(5, 8, scale=30, margin=0.3)
    descriptors = functional.normalize(torch.randn(6, 8), dim=1)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    for step in range(3):
        value = float(loss(descriptors, labels).detach())
        t = float(loss.t)
        prototypes = functional.normalize(loss.prototypes, dim=1)
        wanted = 0.0
        for descriptor, label in zip(descriptors, labels.tolist(), strict=True):
            cosines = [float(descriptor @ prototype) for prototype in prototypes.detach()]
            positive = math.cos(math.acos(cosines[label]) + 0.3)
            logits = [c * (t + c) if c > positive else c for c in cosines]
            logits[label] = positive
            wanted -= math.log(math.exp(30 * positive) / sum(math.exp(30 * logit) for logit in logits)) / 6
        assert value == pytest.approx(wanted, rel=1e-4)
        mean = float((descriptors * prototypes[labels]).sum(dim=1).mean().detach())
        assert t == pytest.approx(mean * (1 - 0.99 ** (step + 1)), rel=1e-4)
    before = float(loss.t)
    loss.eval()(descriptors, labels)
    assert float(loss.t) == before


@pytest.mark.parametrize("name", ["softmax", "arcface", "subcenter_arcface", "curricularface"])
def test_every_loss_falls_when_descriptors_reach_their_prototypes(name: str) -> None:
    torch.manual_seed(0)
    loss = classification(ClassificationConfig.model_validate({"name": name, "margin": 0.2}), 4, 16)
    descriptors = torch.randn(12, 16, requires_grad=True)
    labels = torch.arange(12) % 4
    solver = torch.optim.Adam([descriptors, *loss.parameters()], lr=0.1)
    values = []
    for _ in range(60):
        solver.zero_grad()
        value = loss(functional.normalize(descriptors, dim=1), labels)
        value.backward()
        solver.step()
        values.append(float(value))
    assert values[-1] < 0.02 * values[0]


def test_contrast_is_the_mean_over_positives_of_each_and_leaves_the_empty_queue_out() -> None:
    torch.manual_seed(0)
    contrast = MomentumContrast(ContrastConfig(queue=10, temperature=0.1, margin=0.2), 8).eval()
    contrast.t.fill_(0.4)
    keys, queue_labels = functional.normalize(torch.randn(7, 8), dim=1), torch.tensor([0, 0, 1, 1, 2, 2, 2])
    contrast.queue.put(keys, queue_labels)
    descriptors, labels = functional.normalize(torch.randn(3, 8), dim=1), torch.tensor([0, 2, 9])
    each = []
    for descriptor, label in zip(descriptors[:2], (0, 2), strict=True):
        cosines = [float(descriptor @ key) for key in keys]
        same = queue_labels.tolist()
        positives = [math.cos(math.acos(c) + 0.2) for c, other in zip(cosines, same, strict=True) if other == label]
        limit = sum(positives) / len(positives)
        negatives = [c * (0.4 + c) if c > limit else c for c, o in zip(cosines, same, strict=True) if o != label]
        rest = sum(math.exp(c / 0.1) for c in negatives)
        each.append(sum(-math.log(math.exp(p / 0.1) / (math.exp(p / 0.1) + rest)) for p in positives) / len(positives))
    assert float(contrast(descriptors, labels)) == pytest.approx(sum(each) / 2, rel=1e-4)
    assert float(contrast(descriptors[2:], labels[2:])) == 0.0


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 7))
def test_the_queue_holds_the_last_ones(batches: list[int], size: int) -> None:
    queue = DescriptorQueue(size, 1)
    put: list[int] = []
    for count in batches:
        numbers = list(range(len(put), len(put) + count))
        queue.put(torch.tensor(numbers, dtype=torch.float32).unsqueeze(1), torch.tensor(numbers))
        put += numbers
    held = sorted(label for label in queue.labels.tolist() if label >= 0)
    assert held == put[-size:]
    there = queue.labels >= 0
    assert queue.descriptors[there, 0].tolist() == queue.labels[there].tolist()


def test_the_momentum_encoder_follows_slowly_and_takes_statistics_over() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    encoder = MomentumEncoder(module, 0.75)
    start = encoder.copy[0].weight.clone()
    with torch.no_grad():
        module[0].weight.add_(1)
        module[1].running_mean.fill_(5)
    encoder.train().follow(module)
    torch.testing.assert_close(encoder.copy[0].weight, start + 0.25)
    assert encoder.copy[1].running_mean.tolist() == [5, 5, 5]
    assert not encoder.copy.training
    ramped = MomentumEncoder(module, 0.75, ramp=True)
    start = ramped.copy[0].weight.clone()
    with torch.no_grad():
        module[0].weight.add_(1)
    ramped.follow(module)
    torch.testing.assert_close(ramped.copy[0].weight, start + 0.9)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
