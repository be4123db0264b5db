"""Runs with an index in a bucket that are killed at every step: readers see the generation before or the one after.

The next run, on the same machine or on another one, ends in the index of a run that was never killed.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bucket import Bucket, bucket, object_client, object_server
from forked import Forks
from tiny import paint

from pipeline.files import object_path
from pipeline.stores import Index
from pipeline.stores.index.published import PublishedIndex

__all__ = ["bucket", "object_client", "object_server"]


@pytest.fixture(scope="module")
def forks(object_server: str) -> Iterator[Forks]:
    with Forks() as server:
        yield server


class Run:
    """Photos of two days, and runs of both on machines with disks of their own."""

    def __init__(self, forks: Forks, home: Path, bucket: Bucket) -> None:
        self.forks, self.home, self.bucket = forks, home, bucket
        for number in range(6):
            paint(home / "photos" / f"{number}.png", number)
        assert self.extract("first", "index") == 0
        self.before = self.seen("index")
        for number in range(6, 9):
            paint(home / "photos" / f"{number}.png", number)
        (home / "photos" / "0.png").unlink()
        assert self.extract("whole", "whole") == 0
        self.after = self.seen("whole")

    def extract(self, machine: str, name: str, **job: Any) -> int:
        disks = str(self.home / "disks" / machine)
        variables = {name: os.environ[name] for name in os.environ if name.startswith("AWS_")}
        return self.forks.run(
            "extract",
            self.home,
            index=f"{self.bucket.url}/{name}",
            environment={**variables, "XDG_CACHE_HOME": disks},
            **job,
        )

    def seen(self, name: str) -> Any:
        """What a search on a machine that has nothing yet sees."""
        place, folder = object_path(f"{self.bucket.url}/{name}"), self.home / "looking"
        assert place is not None
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        index = Index(folder, PublishedIndex(place).fetch(folder))
        assert index.verify() == []
        ids = sorted(index.records)
        return [(index.records[name], index.locals([name])[0].descriptors.tobytes()) for name in ids]

    def reset(self) -> None:
        """The bucket and the disk of the first machine as they were after the first day."""
        for key in self.bucket.listing():
            if key.startswith("index/"):
                self.bucket.delete(key)
        self.bucket.put_folder(self.home / "saved bucket", "index")
        shutil.rmtree(self.home / "disks" / "first")
        shutil.copytree(self.home / "saved disk", self.home / "disks" / "first")

    def save(self) -> None:
        for key in self.bucket.listing():
            if key.startswith("index/"):
                path = self.home / "saved bucket" / key.removeprefix("index/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.bucket.get(key))
        shutil.copytree(self.home / "disks" / "first", self.home / "saved disk")


@pytest.fixture
def days(forks: Forks, tmp_path: Path, bucket: Bucket) -> Run:
    run = Run(forks, tmp_path, bucket)
    run.save()
    return run


def killed_at(days: Run, machine: str, following: str, step: int) -> bool:
    """Whether a run was killed before its end."""
    days.reset()
    shutil.rmtree(days.home / "disks" / "second", ignore_errors=True)
    code = days.extract(machine, "index", kill_at=f"any:{step}")
    assert code in (0, -signal.SIGKILL)
    assert days.seen("index") in (days.before, days.after)
    assert days.extract(following, "index") == 0
    assert days.seen("index") == days.after
    return code != 0


@pytest.mark.parametrize(("machine", "following", "steps"), [("first", "first", (3, 31)), ("second", "first", (9,))])
def test_a_run_killed_at_some_steps(days: Run, machine: str, following: str, steps: tuple[int, ...]) -> None:
    killed = [killed_at(days, machine, following, step) for step in steps]
    assert killed[0]


@pytest.mark.slow
@pytest.mark.parametrize(("machine", "following"), [("first", "first"), ("second", "first"), ("second", "second")])
def test_a_run_killed_at_every_step(days: Run, machine: str, following: str) -> None:
    step = 1
    while killed_at(days, machine, following, step):
        step += 1
    print(f"{machine}, then {following}: {step - 1} steps")
    assert step > 20
