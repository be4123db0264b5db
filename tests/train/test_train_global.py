"""Training of a global descriptor: losses by value, views, what is frozen, checkpoints, resume, and that it learns."""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from cli_helpers import document, relook
from hypothesis import given
from hypothesis import strategies as st
from photos import ROOT, make_photo
from torch.nn import functional

from pipeline.config import AugmentConfig, ClassificationConfig, Config, ContrastConfig, TrainGlobalConfig, load_config
from pipeline.describe import load_describer
from pipeline.describe.backbone_parts import parts_of
from pipeline.describe.backbones import load_backbone
from pipeline.describe.resnet import ResNetBackbone
from pipeline.errors import RelookError
from pipeline.imaging import read_image
from pipeline.stages.convert import convert
from pipeline.stages.train_global import train_global
from pipeline.train import Progress, RunFiles, Validation, fit
from pipeline.train.data.augmentation import augment, random_crop
from pipeline.train.global_descriptor.losses import CurricularFace, classification, with_margin
from pipeline.train.global_descriptor.momentum import DescriptorQueue, MomentumContrast, MomentumEncoder
from pipeline.train.global_descriptor.task import GlobalTask
from pipeline.train.global_descriptor.trunk import Trunk
from pipeline.train.init.global_head import mean_descriptors

SAMPLES = ROOT / "data" / "samples"
CLASSES = (
    "book_a",
    "brick_house_a",
    "city_gate_a",
    "clock_tower_a",
    "lighthouse_a",
    "painting_a",
    "statue_a",
    "vase_a",
)
QUICK = (
    "describe.image.size=96",
    "train_global.augment.size=96",
    "train_global.batch_size=16",
    "train_global.dimension=64",
    "train_global.epochs=2",
)


# --- losses -----------------------------------------------------------------------------------------------------------


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


# --- pictures ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 99))
def test_a_cut_lies_in_the_picture_and_keeps_its_share(width: int, height: int, seed: int) -> None:
    settings = AugmentConfig(area=(0.2, 0.9))
    left, top, w, h = random_crop(width, height, settings, np.random.default_rng(seed))
    assert left >= 0 <= top
    assert w >= 1 <= h
    assert left + w <= width
    assert top + h <= height
    if min(width, height) > 200 and max(width, height) < 1.3 * min(width, height):
        assert 0.19 <= w * h / (width * height) <= 0.92


def test_a_view_follows_from_its_seed(photo: object, tmp_path: Path) -> None:
    pixels = read_image(make_photo(tmp_path / "a.png", (80, 60))).pixels
    settings = AugmentConfig(size=48, lighting=0.1)
    one, two, other = (augment(pixels, settings, seed) for seed in (3, 3, 4))
    assert one.shape == (3, 48, 48)
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_without_any_change_a_view_is_the_resized_picture(tmp_path: Path) -> None:
    pixels = read_image(make_photo(tmp_path / "a.png", (64, 64))).pixels
    still = AugmentConfig(size=64, area=(1, 1), aspect=(1, 1), flip=0, jitter=0, hue=0)
    np.testing.assert_array_equal(augment(pixels, still, 0), pixels.transpose(2, 0, 1))
    mirrored = augment(pixels, still.model_copy(update={"flip": 1.0}), 0)
    np.testing.assert_array_equal(mirrored, pixels.transpose(2, 0, 1)[:, :, ::-1])


# --- networks ---------------------------------------------------------------------------------------------------------


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


# --- the verb ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight classes of the sample photos, eight views each."""
    folder = tmp_path_factory.mktemp("photos")
    with (SAMPLES / "manifest.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["label"] in CLASSES]
    for row in rows:
        (folder / row["path"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SAMPLES / row["path"], folder / row["path"])
    with (folder / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label"), *((row["path"], row["label"]) for row in rows)])
    return folder / "manifest.csv"


def config(folder: Path, *overrides: str) -> Config:
    out = f"train_global.out={json.dumps(str(folder / 'out.safetensors'))}"
    return load_config(overrides=[*QUICK, out, *overrides])


def vectors(manifest: Path, checkpoint: Path | None) -> tuple[np.ndarray, list[str]]:
    describer = load_describer(
        "efficientnet_lite0", checkpoint, image={"size": 96}, globals={"scales": (1.0,)}, locals={"count": 0}
    )
    with manifest.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    prepared = [describer.prepare(read_image(manifest.parent / row["path"]).pixels) for row in rows]
    return np.stack([describer.describe([item])[0].vector for item in prepared]), [row["label"] for row in rows]


def test_it_learns_eight_classes_by_heart(manifest: Path, tmp_path: Path) -> None:
    settings = ["train_global.epochs=30", "train_global.augment.views=4", "train_global.learning_rate=1e-3"]
    result = train_global(config(tmp_path, *settings, "train_global.validation=0"), str(manifest))
    losses = [row["loss"] for row in result.history]
    assert losses[-1] < 0.05 * losses[0]
    found, labels = vectors(manifest, Path(result.checkpoint))
    similarity = found @ found.T - 9 * np.eye(len(found))
    order = np.argsort(-similarity, axis=1)[:, :-1]
    hits = np.array(labels)[order] == np.array(labels)[:, None]
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    assert ((precision * hits).sum(axis=1) / hits.sum(axis=1)).mean() >= 0.99
    assert found.shape[1] == 64


def test_training_that_goes_on_from_a_checkpoint_starts_from_the_means_of_its_labels(
    manifest: Path, tmp_path: Path
) -> None:
    first = train_global(config(tmp_path, "train_global.validation=0"), str(manifest))
    still = ["train_global.validation=0", "train_global.epochs=1", "train_global.learning_rate=1e-9"]
    on = [*still, f"describe.checkpoint={first.checkpoint}"]
    means = train_global(config(tmp_path / "means", *on), str(manifest))
    random = train_global(config(tmp_path / "random", *on, "train_global.head_start=random"), str(manifest))
    assert means.history[0]["loss"] < first.history[0]["loss"] < random.history[0]["loss"]


def test_kept_views_are_what_fresh_ones_are(manifest: Path, tmp_path: Path) -> None:
    """With one view of each photo and no change, keeping it differs from computing it by float16 alone."""
    still = [f"train_global.augment.{key}" for key in ("area=[1,1]", "aspect=[1,1]", "flip=0", "jitter=0", "hue=0")]
    kept = ["train_global.augment.views=1", f"train_global.augment.views_folder={tmp_path / 'views'}"]
    first = train_global(config(tmp_path, *still, *kept), str(manifest))
    fresh = train_global(config(tmp_path / "fresh", *still), str(manifest))
    assert [row["loss"] for row in first.history] == pytest.approx([row["loss"] for row in fresh.history], rel=2e-2)
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "views").rglob("*.npy")}
    assert len(written) == 1
    again = train_global(config(tmp_path / "again", *still, *kept), str(manifest))
    assert again.history == first.history
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "views").rglob("*.npy")} == written
    train_global(config(tmp_path / "own", *still, kept[0]), str(manifest))
    assert not list((tmp_path / "own").glob("*-views"))


def test_the_same_seed_gives_the_same_run_and_only_what_learns_changes(manifest: Path, tmp_path: Path) -> None:
    one, two = (train_global(config(tmp_path / name), str(manifest)) for name in ("a", "b"))
    assert one.history == two.history
    assert one.validation_queries == 16
    start = load_describer("efficientnet_lite0", locals={"count": 0}).network.state_dict()
    trained = load_describer("efficientnet_lite0", one.checkpoint, locals={"count": 0}).network.state_dict()
    changed = {key for key, value in trained.items() if key not in start or not torch.equal(value, start[key])}
    assert "backbone.model.conv_head.weight" in changed
    assert "head.fc.weight" in changed
    frozen = ("backbone.model.conv_stem", *(f"backbone.model.blocks.{n}." for n in range(5)))
    assert not [key for key in changed if key.startswith(frozen)]
    assert not [key for key in changed if key.endswith(("running_mean", "running_var"))]


def test_a_photo_that_cannot_be_read_is_counted_and_left_out(manifest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(manifest.parent, folder)
    broken = next(folder.rglob("book_a_03.jpg"))
    broken.write_bytes(broken.read_bytes()[:200])
    result = train_global(config(tmp_path, "train_global.validation=0"), str(folder / "manifest.csv"))
    assert (result.failed, result.photos, result.labels) == (1, 63, 8)


def test_what_training_cannot_do_is_said(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(RelookError, match=r"freeze = 9: tf_efficientnet_lite0 has 9 parts.*at most 8"):
        train_global(config(tmp_path, "train_global.freeze=9"), str(manifest))
    with pytest.raises(RelookError, match="photos of at least two labels"):
        train_global(config(tmp_path), str(manifest.parent))
    result = train_global(config(tmp_path, "describe.globals.p=3"), str(manifest))
    with pytest.raises(RelookError, match=r"trained with describe\.globals\.p = 3, not 1"):
        load_describer("efficientnet_lite0", result.checkpoint)
    load_describer("efficientnet_lite0", result.checkpoint, globals={"p": "learned"})
    with pytest.raises(RelookError, match="a checkpoint of efficientnet_lite0, not of resnet50"):
        load_describer("resnet50", result.checkpoint)


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a ResNet-50 under timm's names; random ones stand in for ImageNet's."""
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet50").state_dict(), path)
    return path


PUBLISHED = (
    "train_global.augment.size=64",
    "train_global.epochs=1",
    "train_global.batch_size=32",
    "train_global.validation=0",
    "train_global.freeze=3",
    "describe.image.max_side=64",
)


def test_cvnet_starts_from_a_backbone_and_ends_as_an_official_file(
    manifest: Path, imagenet: Path, tmp_path: Path
) -> None:
    settings = [*PUBLISHED, "describe.name=cvnet_r50", f"train_global.start={imagenet}", "train_global.dimension=2048"]
    settings += ["describe.image.resize=none"]
    result = train_global(config(tmp_path, *settings), str(manifest))
    official = tmp_path / "cvnet.pyth"
    convert(Path(result.checkpoint), official)
    own, theirs = (
        load_describer("cvnet_r50", file, maps={"levels": ()}).network.state_dict()
        for file in (result.checkpoint, official)
    )
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[key], theirs[key]) for key in own)
    begun = torch.load(imagenet, weights_only=True)
    assert torch.equal(own["backbone.model.layer1.0.conv1.weight"], begun["layer1.0.conv1.weight"])
    assert not torch.equal(own["backbone.model.layer4.0.conv1.weight"], begun["layer4.0.conv1.weight"])


def test_delgs_local_heads_learn_without_touching_the_global_descriptor(
    manifest: Path, imagenet: Path, tmp_path: Path
) -> None:
    base = [*PUBLISHED, "describe.name=delg_r50", f"train_global.start={imagenet}", "train_global.clip=null"]
    with_heads = train_global(config(tmp_path / "a", *base), str(manifest))
    without = train_global(
        config(tmp_path / "b", *base, "train_global.locals.attention=0", "train_global.locals.reconstruction=0"),
        str(manifest),
    )
    one, two = (load_describer("delg_r50", r.checkpoint).network.state_dict() for r in (with_heads, without))
    heads = ("attention.", "reduce.")
    for key in one:
        same = torch.allclose(one[key].float(), two[key].float(), atol=1e-6)
        if key.startswith(heads) and key.endswith("weight") and ".bn." not in key:
            assert not same, key
        elif not key.startswith(heads):
            assert same, key
    with pytest.raises(RelookError, match="give at most 4"):
        train_global(config(tmp_path / "c", *base, "train_global.freeze=5"), str(manifest))


def test_the_command_trains_and_its_checkpoint_describes(manifest: Path, tmp_path: Path) -> None:
    words = [word for override in QUICK for word in ("--set", override)]
    out = tmp_path / "trained.safetensors"
    result = document("train-global", "--images", manifest, "--out", out, *words)
    assert result["checkpoint"] == str(out)
    assert result["best"].keys() >= {"epoch", "mAP"}
    assert result["epochs"] == 2
    assert (tmp_path / "trained.last.safetensors").exists()
    assert not list(tmp_path.glob("*.state"))
    index = tmp_path / "index"
    chosen = ["--set", f"describe.checkpoint={out}", "--set", "describe.image.size=96"]
    assert document("extract", "--images", manifest, "--index", index, *chosen)["images"] == 64
    photo = manifest.parent / "images" / "book_a" / "book_a_00.jpg"
    hits = document("search", photo, "--index", index, *chosen[:2])["queries"][0]["results"]
    assert hits[0]["label"] == "book_a"
    table = relook("train-global", "--images", manifest, "--out", tmp_path / "other.safetensors", *words)
    assert "kept: epoch" in table.stdout, table.stdout + table.stderr


def test_a_dry_run_says_the_cost_and_writes_nothing(manifest: Path, tmp_path: Path) -> None:
    words = [word for override in QUICK for word in ("--set", override)]
    views = ["--set", "train_global.augment.views=2"]
    out = tmp_path / "trained.safetensors"
    cost = document("train-global", "--images", manifest, "--out", out, "--dry-run", *words, *views)
    assert cost["batches"] == 3
    assert 0 < cost["trainable"] < cost["parameters"]
    assert cost["seconds_per_epoch"] > 0
    assert not list(tmp_path.iterdir())


def test_two_processes_learn_what_one_does(manifest: Path, tmp_path: Path) -> None:
    """Momentum encoder and queue see the whole batch, whoever computed which part of it."""
    words = [word for override in QUICK for word in ("--set", override)]
    arguments = ["train-global", "--images", str(manifest), "--json", *words]
    alone = document(*arguments[: -len(words) - 1], *words, "--out", tmp_path / "alone.safetensors")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
            *(str(ROOT / "cli.py"), *arguments, "--out", str(tmp_path / "both.safetensors")),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    both = json.loads(done.stdout)
    for one, two in zip(alone["history"], both["history"], strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert two["mAP"] == pytest.approx(one["mAP"], abs=1.0)
