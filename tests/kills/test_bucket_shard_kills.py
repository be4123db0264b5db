"""Shards and joins of an index in a bucket that are killed: readers see what was or what will be, and the rest goes on.

Whoever goes on, the same machine or one with an empty disk, ends in the index of one process, to the last bit.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bucket import Bucket, bucket, object_client, object_server
from forked import Forks
from stores_helpers import content
from tiny import paint

from pipeline.files import object_path
from pipeline.stores import Index
from pipeline.stores.index.published import PublishedIndex

__all__ = ["bucket", "object_client", "object_server"]

SHARDS = ("1/2", "2/2")


@pytest.fixture(scope="module")
def forks(object_server: str) -> Iterator[Forks]:
    with Forks() as server:
        yield server


class Run:
    """Photos, and runs on machines with disks of their own; each `name` is another index in the bucket."""

    def __init__(self, forks: Forks, home: Path, bucket: Bucket) -> None:
        self.forks, self.home, self.bucket = forks, home, bucket
        for number in range(10):
            paint(home / "photos" / f"{number}.png", number)
        (home / "photos" / "bad.png").write_bytes(b"no photo")
        assert self.run("extract", "whole", "whole") == 0
        self.whole = self.seen("whole")

    def run(self, verb: str, name: str, machine: str, **job: Any) -> int:
        variables = {name: os.environ[name] for name in os.environ if name.startswith("AWS_")}
        disk = str(self.home / "disks" / name / machine)
        return self.forks.run(
            verb,
            self.home,
            index=f"{self.bucket.url}/{name}",
            block=3,
            environment={**variables, "XDG_CACHE_HOME": disk},
            **job,
        )

    def seen(self, name: str) -> Any:
        """What a search on a machine that has nothing yet sees; None: there is no index."""
        place, folder = object_path(f"{self.bucket.url}/{name}"), self.home / "looking" / name
        assert place is not None
        there = PublishedIndex(place)
        if there.content() is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        index = Index(folder, there.fetch(folder))
        assert index.verify() == []
        return content(index), list(index.records), index.failure_rows()


@pytest.fixture
def run(forks: Forks, tmp_path: Path, bucket: Bucket) -> Run:
    return Run(forks, tmp_path, bucket)


def shard_killed_at(run: Run, step: int, following: str) -> bool:
    """Whether the first shard, which plans, was killed before its end."""
    name = f"shard-{step}-{following}"
    code = run.run("shard", name, "first", shard=SHARDS[0], kill_at=f"any:{step}")
    assert code in (0, -signal.SIGKILL)
    assert run.seen(name) in (None, ({}, [], []))
    if code:
        assert run.run("join", name, "joining") == 1
    assert run.run("shard", name, following, shard=SHARDS[0]) == 0
    assert run.run("shard", name, "other", shard=SHARDS[1]) == 0
    assert run.run("join", name, "joining") == 0
    assert run.seen(name) == run.whole
    return code != 0


def join_killed_at(run: Run, step: int, following: str) -> bool:
    """Whether the first join was killed before its end."""
    name = f"join-{step}-{following}"
    for machine, shard in zip(("first", "second"), SHARDS, strict=True):
        assert run.run("shard", name, machine, shard=shard) == 0
    code = run.run("join", name, "joining", kill_at=f"any:{step}")
    assert code in (0, -signal.SIGKILL)
    before = run.seen(name)
    assert before is not None
    # The list of failures is no part of a generation: it is uploaded before `index.json`.
    assert before[:2] in (({}, []), run.whole[:2])
    assert before[2] in ([], run.whole[2])
    # A join that has left its note, or has ended, says that there is nothing to join.
    joined = b'"joined"' in run.bucket.get(f"{name}/shards/plan.json")
    assert run.run("join", name, following) == (1 if joined else 0)
    assert run.seen(name) == run.whole
    return code != 0


@pytest.mark.parametrize(("step", "following"), [(30, "second"), (55, "first")])
def test_a_shard_killed_at_some_steps(run: Run, step: int, following: str) -> None:
    assert shard_killed_at(run, step, following)


@pytest.mark.parametrize(("step", "following"), [(12, "joining"), (36, "second"), (83, "joining")])
def test_a_join_killed_at_some_steps(run: Run, step: int, following: str) -> None:
    assert join_killed_at(run, step, following)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("killed_at", "following"),
    [
        (shard_killed_at, "first"),
        (shard_killed_at, "second"),
        (join_killed_at, "joining"),
        (join_killed_at, "second"),
    ],
)
def test_killed_at_every_step(run: Run, killed_at: Callable[[Run, int, str], bool], following: str) -> None:
    step = 1
    while killed_at(run, step, following):
        step += 1
    assert step > 20
