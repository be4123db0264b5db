"""Shards and joins that are killed at every step: the index is as it was or as it will be, and running again ends it.

It ends in the index of a run that was neither divided nor killed, to the last bit and in the same order.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from forked import Forks
from stores_helpers import content
from tiny import paint

from pipeline.stores import Index
from pipeline.stores.index.manifest import read_manifest

SHARDS = ("1/3", "2/3", "3/3")
BLOCK = 3


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as server:
        yield server


@pytest.fixture(scope="module")
def before(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index whose photos have changed since; the photos of every copy are these."""
    home = tmp_path_factory.mktemp("before")
    for number in range(6):
        paint(home / "photos" / "ab"[number % 2] / f"{number}.png", number)
    assert run(forks, "extract", home) == 0
    for number in range(12):
        paint(home / "photos" / "new" / f"{number:02d}.png", 100 + number)
    paint(home / "photos" / "a" / "0.png", 200)
    (home / "photos" / "b" / "1.png").rename(home / "photos" / "a" / "1.png")
    (home / "photos" / "b" / "3.png").unlink()
    (home / "photos" / "new" / "05.png").write_bytes(b"no photo")
    return home


@pytest.fixture(scope="module")
def whole(forks: Forks, before: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a run that is not divided makes of it."""
    home = copied(before, tmp_path_factory.mktemp("whole") / "home")
    assert run(forks, "extract", home) == 0
    return held(home)


def run(forks: Forks, verb: str, home: Path, **job: Any) -> int:
    return forks.run(verb, home, block=BLOCK, **job)


def copied(home: Path, place: Path) -> Path:
    """The same photos and a copy of the index."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    (place / "photos").symlink_to(home / "photos")
    shutil.copytree(home / "index", place / "index")
    return place


def held(home: Path) -> Any:
    index = Index(home / "index")
    assert index.verify() == []
    return content(index), list(index.records), index.failure_rows()


def described(forks: Forks, home: Path) -> Path:
    for shard in SHARDS:
        assert run(forks, "shard", home, shard=shard) == 0
    return home


def leftovers(home: Path) -> set[str]:
    """Files that no generation that is kept names."""
    index = Index(home / "index")
    named = {file.path for file in (*index.manifest.files(), *index.manifest.earlier)}
    for file in index.manifest.earlier:
        named |= {inner.path for inner in read_manifest(home / "index", file.path).files()}
    folders = ("catalog", "globals", "locals", "generations")
    there = {str(path.relative_to(home / "index")) for name in folders for path in (home / "index" / name).glob("*")}
    return there - named | {str(path) for path in (home / "index").rglob("*.tmp")}


def shard_killed_at(forks: Forks, before: Path, place: Path, whole: Any, shard: str, step: int) -> bool:
    """Whether the first run of a shard was killed before its end."""
    home = copied(before, place)
    old = held(home)
    first = () if shard == SHARDS[0] else (SHARDS[0],)
    for other in first:
        assert run(forks, "shard", home, shard=other) == 0
    code = run(forks, "shard", home, shard=shard, kill_at=f"any:{step}")
    assert code in (0, -signal.SIGKILL)
    assert held(home)[0] == old[0]
    if code:
        assert run(forks, "join", home) == 1
    for other in SHARDS:
        if other not in first:
            assert run(forks, "shard", home, shard=other) == 0
    assert run(forks, "join", home) == 0
    assert held(home) == whole
    return code != 0


def join_killed_at(forks: Forks, ready: Path, place: Path, whole: Any, step: int) -> bool:
    """Whether the first join was killed before its end."""
    home = copied(ready, place)
    old = held(home)[0]
    code = run(forks, "join", home, kill_at=f"any:{step}")
    assert code in (0, -signal.SIGKILL)
    assert held(home)[0] in (old, whole[0])
    # A join that has removed the plan, or has ended, says that there is nothing to join.
    planned = (home / "index" / "shards" / "plan.json").exists()
    assert run(forks, "join", home) == (0 if planned else 1)
    assert held(home)[0] == whole[0]
    assert described(forks, home) == home
    assert run(forks, "join", home) == 0
    assert run(forks, "gc", home) == 0
    assert held(home)[0] == whole[0]
    assert not (home / "index" / "shards").exists()
    assert leftovers(home) == set()
    return code != 0


@pytest.fixture(scope="module")
def ready(forks: Forks, before: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every shard is described."""
    return described(forks, copied(before, tmp_path_factory.mktemp("ready") / "home"))


@pytest.mark.parametrize(("shard", "steps"), [("1/3", (2, 21)), ("2/3", (5, 14))])
def test_a_shard_killed_at_some_steps(
    forks: Forks, before: Path, whole: Any, tmp_path: Path, shard: str, steps: tuple[int, ...]
) -> None:
    killed = [shard_killed_at(forks, before, tmp_path / "home", whole, shard, step) for step in steps]
    assert killed[0]


def test_a_join_killed_at_some_steps(forks: Forks, ready: Path, whole: Any, tmp_path: Path) -> None:
    killed = [join_killed_at(forks, ready, tmp_path / "home", whole, step) for step in (1, 12, 25, 33)]
    assert killed[0]


@pytest.mark.slow
@pytest.mark.parametrize("shard", SHARDS[:2])
def test_a_shard_killed_at_every_step(forks: Forks, before: Path, whole: Any, tmp_path: Path, shard: str) -> None:
    step = 1
    while shard_killed_at(forks, before, tmp_path / "home", whole, shard, step):
        step += 1
    print(f"{shard}: {step - 1} steps")
    assert step > 12


@pytest.mark.slow
def test_a_join_killed_at_every_step(forks: Forks, ready: Path, whole: Any, tmp_path: Path) -> None:
    step = 1
    while join_killed_at(forks, ready, tmp_path / "home", whole, step):
        step += 1
    print(f"join: {step - 1} steps")
    assert step > 12
