"""`relook train-rerank` around its loop: the dry run, several processes, the lock, and when a state is taken up."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_helpers import QUICK as DESCRIBING
from cli_helpers import ROOT, document, index, photos, relook
from filelock import FileLock
from looping import LOOP, Toy, torchrun

from pipeline.config import Config, load_config
from pipeline.errors import LockedError, RelookError
from pipeline.stages.extract import extract
from pipeline.stages.train_rerank import dry_run_rerank, train_rerank, usefulness
from pipeline.train import RECIPES
from pipeline.workflow.progress import Silent
from pipeline.workflow.training.training_run import run_training

__all__ = ["index", "photos"]

# From the paper's start: the other one fits projections, which takes longer than these few steps.
QUICK = [
    "train_rerank.rrt.start=paper",
    "train_rerank.epochs=2",
    "train_rerank.triplets=192",
    "train_rerank.save_every=1",
    "train_rerank.rrt.locals=4",
]
SET = [part for setting in QUICK for part in ("--set", setting)]


def files(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def test_a_dry_run_gives_one_document_and_writes_nothing(index: Path) -> None:
    before = files(index)
    cost = document("train-rerank", "--index", index, "--dry-run", *SET)
    assert list(cost) == [
        *("device", "parameters", "trainable", "batch_size", "batches", "seconds_per_step", "seconds_per_epoch"),
        *("memory", "state"),
    ]
    assert 0 < cost["trainable"] == cost["parameters"]
    assert (cost["batch_size"], cost["batches"]) == (64, 3)
    rows = dry_run_rerank(load_config(None, [f"index={index}", *QUICK])).to_rows()
    assert rows["parameters"] == f"{cost['parameters']:,}"
    assert rows["memory"].endswith(" MB")
    assert files(index) == before


def test_two_processes_give_one_document(index: Path, tmp_path: Path) -> None:
    arguments = ("--index", index, "--out", tmp_path / "two.safetensors", *SET, "--json")
    done = torchrun(ROOT / "cli.py", "train-rerank", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert "Warning" not in done.stderr
    two = json.loads(done.stdout)
    one = train_rerank(
        load_config(None, [f"index={index}", f"train_rerank.out={tmp_path / 'one.safetensors'}", *QUICK])
    )
    for epoch, other in zip(two["history"], one.history, strict=True):
        assert epoch["loss"] == pytest.approx(other["loss"], rel=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("two")) == [
        *("two-log", "two.last.safetensors", "two.safetensors"),
    ]


@pytest.mark.slow
def test_an_error_of_both_processes_is_said_once(index: Path) -> None:
    arguments = ("--index", index, "--set", "train_rerank.batch_size=63", "--json")
    done = torchrun(ROOT / "cli.py", "train-rerank", *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    said = [line for line in done.stderr.splitlines() if line.startswith("relook: ")]
    assert len(said) == 1, done.stderr
    assert "batch_size = 63 cannot be divided among 2 processes" in said[0]


@pytest.mark.slow
def test_wrong_usage_is_said_by_the_first_process() -> None:
    done = [
        relook("train-rerank", "--set", "train_rerank.batchsize=63", RANK=number, WORLD_SIZE="2") for number in "01"
    ]
    assert [one.returncode for one in done] == [2, 2]
    assert "unknown key train_rerank.batchsize" in done[0].stderr
    assert done[1].stderr == ""


def toy(out: Path, **options: Any) -> Any:
    task = Toy()
    return run_training(
        task,
        LOOP,
        task.validation,
        lambda which, validation: None,
        out=out,
        identity="x",
        seed=0,
        device=torch.device("cpu"),
        reporter=options.get("reporter", Silent()),
    )


def test_one_training_at_a_time(tmp_path: Path) -> None:
    out = tmp_path / "new" / "a.safetensors"
    out.parent.mkdir()
    with FileLock(tmp_path / "new" / ".a.safetensors.lock"):
        with pytest.raises(LockedError, match=r"a\.safetensors: another training writes to it"):
            toy(out)
        toy(tmp_path / "new" / "b.safetensors")
    toy(out)


def test_what_a_killed_training_left_half_written_is_removed(tmp_path: Path) -> None:
    left = ["a.safetensors.12.tmp", "a.last.safetensors.12.tmp", "a.safetensors.state.12.tmp"]
    others = ["a_b.safetensors.12.tmp", "notes.tmp"]
    for name in left + others:
        (tmp_path / name).write_bytes(b"")
    toy(tmp_path / "a.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, ".a.safetensors.lock", "a-log"])


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RelookError, match="file: cannot be written"):
        toy(tmp_path / "file" / "a.safetensors")


class Counted:
    """A reporter that counts, and stops the run after so many units."""

    def __init__(self, stop: int = -1) -> None:
        self.steps: list[int] = []
        self.total = 0
        self._stop = stop

    @contextmanager
    def bar(self, what: str, total: int, unit: str) -> Iterator[Counted]:
        self.total = total
        yield self

    def advance(self, count: int = 1, note: str = "") -> None:
        self.steps.append(count)
        if sum(self.steps) == self._stop:
            raise KeyboardInterrupt


def stopped(config: Config, steps: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_rerank(config, Counted(steps))


def test_the_bar_of_a_resumed_run_starts_where_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        toy(tmp_path / "a", reporter=Counted(8))
    again = Counted()
    toy(tmp_path / "a", reporter=again)
    assert (again.steps[0], sum(again.steps), again.total) == (8, 15, 15)


def test_what_a_run_goes_on_with_and_what_it_refuses(index: Path, tmp_path: Path) -> None:
    base = [f"index={index}", f"train_rerank.out={tmp_path / 'a.safetensors'}", *QUICK]
    whole = train_rerank(load_config(None, [*base, f"train_rerank.out={tmp_path / 'b.safetensors'}"]))
    stopped(load_config(None, base), 4)
    for other in ("seed=1", "train_rerank.learning_rate=0.1", "rerank.rrt.top=7", "train_rerank.split=train"):
        with pytest.raises(RelookError, match="other settings or data"):
            train_rerank(load_config(None, [*base, other]))
    resumed = train_rerank(load_config(None, [*base, "train_rerank.save_every=50"]))
    assert resumed.history == whole.history
    assert resumed.best == whole.best
    same = [(tmp_path / name).read_bytes() for name in ("a.safetensors", "b.safetensors")]
    assert same[0] == same[1]


def test_a_changed_label_is_another_run(index: Path, photos: Path, tmp_path: Path) -> None:
    out = f"train_rerank.out={tmp_path / 'a.safetensors'}"
    stopped(load_config(None, [f"index={index}", out, *QUICK]), 4)
    shutil.copytree(index, tmp_path / "copy")
    (photos.parent / "other.csv").write_text(photos.read_text().replace("view_0.jpg,thing 1", "view_0.jpg,thing 2"))
    describing = [setting for setting in DESCRIBING if setting != "--set"]
    changed = extract(load_config(None, [f"index={tmp_path / 'copy'}", *describing]), str(photos.parent / "other.csv"))
    assert changed.images == 40
    with pytest.raises(RelookError, match="other settings or data"):
        train_rerank(load_config(None, [f"index={tmp_path / 'copy'}", out, *QUICK]))


def test_a_useless_checkpoint_is_said_aloud() -> None:
    found = {"weight": 0.4, "global mAP": 71.0}
    assert usefulness(found) == ""
    assert "changes nothing" in usefulness({**found, "weight": 1.0})
    assert "100.00 mAP on the held-out queries" in usefulness({**found, "global mAP": 100.0})


def test_the_help_names_every_trainable_reranker() -> None:
    text = " ".join(relook("train-rerank", "--help").stdout.split())
    assert all(name in text for name in RECIPES)
