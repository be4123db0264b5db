"""Runs that are killed at every step of their commits, and anywhere: the index is whole, and the next run ends it.

After each kill the index opens and verifies, every image is as it was before or as it will be, and running again ends
in the state of a run that was never killed: the same vectors, locals, ids and metadata, byte for byte, in index and
store.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import Forks
from stores_helpers import content
from tiny import paint, tiny_config

from pipeline.stores import Index, open_store
from pipeline.stores.index.manifest import read_manifest


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as server:
        yield server


def night(photos: Path) -> None:
    """What a day brings: photos come, change, move, go, get another label."""
    for number in range(5):
        paint(photos / "new" / f"{number}.png", 100 + number)
    paint(photos / "a" / "0.png", 200)
    (photos / "b" / "1.png").rename(photos / "a" / "1.png")
    (photos / "a" / "2.png").rename(photos / "b" / "2.png")
    (photos / "b" / "3.png").unlink()
    (photos / "a" / "bad.png").write_bytes(b"no photo")


@pytest.fixture(scope="module")
def before(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index and its store, after which the photos have changed."""
    home = tmp_path_factory.mktemp("before")
    for number in range(10):
        paint(home / "photos" / "ab"[number % 2] / f"{number}.png", number)
    for seed in (300, 301):
        paint(home / "photos" / "a" / "4.png", seed)
        assert forks.run("reindex", home, store="ann") == 0
    night(home / "photos")
    return home


@pytest.fixture(scope="module")
def ahead(forks: Forks, before: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index that knows the change, and a store that does not."""
    home = moved(before, tmp_path_factory.mktemp("ahead") / "home")
    assert forks.run("extract", home) == 0
    return home


def moved(before: Path, place: Path) -> Path:
    """A copy that believes to be where its photos are."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(before, place, symlinks=True)
    return place


def stored(home: Path) -> dict[str, Any]:
    """All that the store holds."""
    index = Index(home / "index")
    store = open_store("ann", index)
    rows = store.read(list(store.ids()))
    return {name: (rows.vectors[row].tobytes(), dict(rows.metadata[row])) for row, name in enumerate(rows.ids)}


def whole(home: Path) -> dict[str, Any]:
    """What the index holds; of a change of model the old model."""
    index = Index(home / "index")
    assert index.verify() == []
    held = content(index)
    assert index.manifest.counts["images"] == len(held)
    return held


class Case:
    """A verb, what it starts from, and where it ends when nobody kills it."""

    def __init__(self, forks: Forks, before: Path, place: Path, verb: str, **job: Any) -> None:
        self.forks, self.before, self.place, self.verb, self.job = forks, before, place, verb, job
        home = moved(before, place)
        self.old = whole(home)
        assert forks.run(verb, home, **job) == 0
        self.new, self.stored = whole(home), stored(home) if job.get("store") else None

    def check(self, home: Path) -> None:
        """After a kill, and after the next run."""
        now = whole(home)
        for name, value in now.items():
            new = self.new.get(name)
            known = (self.old.get(name), new, new and new[:_DESCRIPTORS])
            assert value in known or self.was_elsewhere(value)
        # A verb that is done before it was killed has nothing left to do, and says so.
        assert self.forks.run(self.verb, home, **self.job) in ((0, 1) if self.verb == "rollback" else (0,))
        assert whole(home) == self.new
        if self.stored is not None:
            assert stored(home) == self.stored
        assert self.forks.run("gc", home) == 0
        assert leftovers(home) == set()

    def was_elsewhere(self, value: Any) -> bool:
        return any(value[1] == other[1] for other in self.old.values())

    def kill_at(self, step: int) -> bool:
        """Whether the verb was killed before its end."""
        home = moved(self.before, self.place)
        code = self.forks.run(self.verb, home, kill_at=f"any:{step}", **self.job)
        assert code in (0, -signal.SIGKILL)
        self.check(home)
        return code != 0

    def kill_after(self, seconds: float) -> None:
        home = moved(self.before, self.place)
        process = self.forks.start(self.verb, home, **self.job)
        time.sleep(seconds)
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        assert self.forks.end() in (0, -signal.SIGKILL)
        self.check(home)


def leftovers(home: Path) -> set[str]:
    index = Index(home / "index")
    named = {file.path for file in (*index.manifest.files(), *index.manifest.earlier)}
    for file in index.manifest.earlier:
        named |= {inner.path for inner in read_manifest(home / "index", file.path).files()}
    folders = ("catalog", "globals", "locals", "maps", "keypoints", "model", "generations")
    there = {str(path.relative_to(home / "index")) for name in folders for path in (home / "index" / name).glob("*")}
    return there - named | {str(path) for path in (home / "index").rglob("*.tmp")}


# Values of `content` before the keypoints, which may come in a commit of their own.
_DESCRIPTORS = 7

CASES = {
    "reindex": {"store": "ann"},
    "reindex to another model": {"size": 200},
    "extract": {},
    "extract other keypoints": {"keypoints": {"kind": "sift", "count": 5}},
    "upload": {"store": "ann"},
    "compact": {},
    "rollback": {},
}


@pytest.fixture
def case(request: pytest.FixtureRequest, forks: Forks, before: Path, ahead: Path, tmp_path: Path) -> Case:
    verb = request.param.split()[0]
    return Case(forks, ahead if verb == "upload" else before, tmp_path / "home", verb, **CASES[request.param])


@pytest.mark.parametrize(
    ("case", "steps"),
    [
        ("reindex", (1, 9, 19, 29)),
        ("reindex to another model", (2, 20, 38)),
        ("extract", (3, 23)),
        ("extract other keypoints", (3, 24)),
        ("upload", (1, 2, 3, 4)),
        ("compact", (2, 5, 8)),
        ("rollback", (1, 3)),
    ],
    indirect=["case"],
)
def test_kills_at_some_steps(case: Case, steps: tuple[int, ...]) -> None:
    killed = [case.kill_at(step) for step in steps]
    assert killed[0]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, indirect=True)
def test_a_kill_at_every_step(case: Case) -> None:
    step = 1
    while case.kill_at(step):
        step += 1
    print(f"{case.verb} {case.job}: {step - 1} steps")
    assert step > 3


@pytest.mark.slow
@pytest.mark.parametrize("case", ["reindex", "reindex to another model", "extract", "upload"], indirect=True)
def test_kills_at_random_instants(case: Case) -> None:
    started = time.monotonic()
    home = moved(case.before, case.place)
    case.forks.run(case.verb, home, **case.job)
    length = time.monotonic() - started
    for instant in np.random.default_rng(5).uniform(0, 1.1 * length, 30):
        case.kill_after(float(instant))


@pytest.mark.parametrize("how", ["flipped", "cut", "missing"])
def test_a_damaged_part_is_named(forks: Forks, before: Path, tmp_path: Path, how: str) -> None:
    home = moved(before, tmp_path / "home")
    index = Index(home / "index")
    for file in index.manifest.files():
        path = home / "index" / file.path
        data = path.read_bytes()
        if how == "missing":
            path.unlink()
        else:
            middle = len(data) // 2
            path.write_bytes(data[:middle] if how == "cut" else data[:middle] + b"?" + data[middle + 1 :])
        assert [line for line in index.verify() if line.startswith(f"{path}: ")]
        path.write_bytes(data)
    assert index.verify() == []
    assert tiny_config(home).index == home / "index"
