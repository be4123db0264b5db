"""Steps of training a global descriptor: parts of networks, rates, batches, and a run that was killed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.config import TrainGlobalConfig
from pipeline.describe.backbone_parts import parts_of
from pipeline.describe.backbones import load_backbone
from pipeline.describe.resnet import ResNetBackbone
from pipeline.errors import RelookError
from pipeline.train import Progress, RunFiles, Validation, fit
from pipeline.train.global_descriptor.task import GlobalTask
from pipeline.train.global_descriptor.trunk import Trunk
from pipeline.train.init.global_head import mean_descriptors


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "convnext_atto", "vit_tiny_patch16_224"])
def test_parts_one_after_the_other_are_the_backbone(name: str) -> None:
    backbone = load_backbone(name, weights="random", checkpoint=None)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps = images
        for part in parts_of(backbone):
            maps = part(maps)
        assert torch.equal(maps, backbone(images)[0])


def test_parts_of_the_papers_resnets() -> None:
    backbone = ResNetBackbone("resnet50").eval()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps = [images]
        for part in parts_of(backbone):
            maps.append(part(maps[-1]))
        assert torch.equal(maps[-1], backbone(images)[0])
    assert [m.shape[1] for m in maps[1:]] == [64, 256, 512, 1024, 2048]
    backbone.use_relup(inside=True, outside=True)
    with pytest.raises(RelookError, match="train cvnet_r50"):
        parts_of(backbone)


def small_task(folder: Path, **changes: object) -> tuple[GlobalTask, Trunk]:
    """A task on random maps of 12 pictures of three labels, behind a trunk of two small parts."""

    class Maps:
        count = 4

        def read(self, photos: list[int], draws: list[int]) -> torch.Tensor:
            return torch.stack([maps[photo, draw] for photo, draw in zip(photos, draws, strict=True)])

        def trunk_input(self, views: torch.Tensor) -> torch.Tensor:
            return views

    class Head(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(8, 6)

        def pool(self, final: torch.Tensor) -> torch.Tensor:
            return self.fc(final.mean(dim=(2, 3)))

    torch.manual_seed(0)
    maps = torch.randn(12, 4, 5, 3, 3) + torch.arange(12).view(12, 1, 1, 1, 1) % 3
    parts = [
        torch.nn.Sequential(torch.nn.Conv2d(5, 8, 1), torch.nn.BatchNorm2d(8), torch.nn.ReLU()),
        torch.nn.Sequential(torch.nn.Conv2d(8, 8, 1), torch.nn.ReLU()),
    ]
    settings = TrainGlobalConfig.model_validate({"batch_size": 4, "epochs": 3, "contrast": {"queue": 16}, **changes})
    trunk = Trunk(parts, Head(), settings.batch_norm == "learnt", settings.checkpointing)
    task = GlobalTask(trunk, Maps(), [f"photo {n}" for n in range(12)], np.arange(12) % 3, 6, settings)
    return task, trunk


def run(task: GlobalTask, folder: Path, report: object = lambda progress: None) -> list[float]:
    trained = fit(
        task,
        task._settings,
        lambda: Validation(None, {}),
        lambda which, validation: None,
        files=RunFiles(folder / "state", folder / "log"),
        identity="x",
        seed=1,
        device=torch.device("cpu"),
        report=report,
    )
    return trained.losses


def test_a_run_with_queue_and_momentum_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(progress: Progress) -> None:
        if (progress.epoch, progress.step) == (2, 2):
            raise StopError

    whole = run(small_task(tmp_path, save_every=1)[0], tmp_path / "whole")
    with pytest.raises(StopError):
        run(small_task(tmp_path, save_every=1)[0], tmp_path / "parts", stop)
    assert run(small_task(tmp_path, save_every=1)[0], tmp_path / "parts") == whole


def test_computing_parts_again_changes_nothing(tmp_path: Path) -> None:
    plain = run(small_task(tmp_path)[0], tmp_path / "a")
    assert run(small_task(tmp_path, checkpointing=True)[0], tmp_path / "b") == pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize("statistics", ["frozen", "learnt"])
def test_statistics_are_learnt_only_where_that_is_asked_for(tmp_path: Path, statistics: str) -> None:
    task, trunk = small_task(tmp_path, batch_norm=statistics)
    before = trunk.parts[0][1].running_mean.clone()
    run(task, tmp_path)
    assert torch.equal(trunk.parts[0][1].running_mean, before) == (statistics == "frozen")


def test_earlier_parts_learn_more_slowly_and_heads_faster(tmp_path: Path) -> None:
    task, trunk = small_task(tmp_path, part_rate=0.5, head_rate=7)
    scale = {id(p): group["lr_scale"] for group in task.groups(0.1) for p in group["params"]}
    assert scale[id(trunk.parts[0][0].weight)] == 0.5
    assert scale[id(trunk.parts[1][0].weight)] == 1.0
    assert scale[id(trunk.head.fc.weight)] == 7.0
    assert scale[id(task.classification.prototypes)] == 7.0
    decay = {id(p): group["weight_decay"] for group in task.groups(0.1) for p in group["params"]}
    assert decay[id(trunk.parts[0][0].weight)] == 0.1
    assert decay[id(trunk.parts[0][0].bias)] == 0.0


def test_batches_hold_so_many_photos_of_each_label(tmp_path: Path) -> None:
    task, _ = small_task(tmp_path, per_label=2)
    for rows in task.plan(np.random.default_rng(0)):
        assert sorted(np.unique(rows[:, 1], return_counts=True)[1].tolist()) == [2, 2]
    state = np.random.get_state()[1].copy()
    task.plan(np.random.default_rng(0))
    assert (np.random.get_state()[1] == state).all()


def test_prototypes_of_a_trained_head_are_the_means_of_their_labels(tmp_path: Path) -> None:
    task, trunk = small_task(tmp_path)
    labels = np.arange(12) % 3
    trunk.eval()
    views = [trunk(task._views.read(range(12), [draw] * 12)).detach() for draw in (0, 1)]
    sums = torch.stack([sum(view[labels == number].sum(dim=0) for view in views) for number in range(3)])
    found = mean_descriptors(trunk, task._views, labels)
    torch.testing.assert_close(found, functional.normalize(sums, dim=1))
