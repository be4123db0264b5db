"""The verb `train-global`: it learns, can be repeated, starts from official weights and ends as them."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from cli_helpers import document, relook
from photos import ROOT

from pipeline.config import Config, load_config
from pipeline.describe import load_describer
from pipeline.errors import RelookError
from pipeline.imaging import read_image
from pipeline.stages.convert import convert
from pipeline.stages.train_global import train_global

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


@pytest.mark.slow
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


@pytest.mark.slow
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
