"""An index under random days and nights, beside a plain dictionary that says what it should hold.

Photos are added, changed, moved, labelled otherwise and removed; runs are killed, repeated, rolled back; parts are
folded and generations collected. All runs are processes of their own, and kills are kills.
"""

from __future__ import annotations

import hashlib
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from forked import Forks
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from stores_helpers import content
from tiny import TinyDescriber, paint

from pipeline.imaging import read_image
from pipeline.stores import Index

NAMES = st.sampled_from([f"{folder}/{number}.png" for folder in "abc" for number in range(4)])
SEEDS = st.integers(0, 40)
State = dict[str, tuple[str, bytes]]


class Nights(RuleBasedStateMachine):
    """`photos` is what lies on the disk; `held` what the index has to hold; `earlier` what it can return to."""

    forks: Forks

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="relook-model-"))
        self.photos: dict[str, int] = {"a/0.png": 0}
        paint(self.home / "photos" / "a/0.png", 0)
        assert self.forks.run("reindex", self.home) == 0
        self.held: State | None = self.expected()
        self.earlier: list[State] = []
        self.complete = True

    def teardown(self) -> None:
        shutil.rmtree(self.home)

    def expected(self) -> State:
        """Of each photo the content, and the vector that the describer gives it."""
        state = {}
        for name in self.photos:
            path = self.home / "photos" / name
            describer = TinyDescriber(320)
            vector = describer.describe([describer.prepare(read_image(path).pixels)])[0].vector
            state[name] = (hashlib.sha256(path.read_bytes()).hexdigest(), vector.tobytes())
        return state

    @rule(name=NAMES, seed=SEEDS)
    def put(self, name: str, seed: int) -> None:
        paint(self.home / "photos" / name, seed)
        self.photos[name] = seed

    @precondition(lambda self: len(self.photos) > 1)
    @rule(data=st.data())
    def remove(self, data: Any) -> None:
        name = data.draw(st.sampled_from(sorted(self.photos)))
        (self.home / "photos" / name).unlink()
        del self.photos[name]

    @rule(data=st.data(), new=NAMES)
    def move(self, data: Any, new: str) -> None:
        """Also relabels: the label is the folder's name."""
        name = data.draw(st.sampled_from(sorted(self.photos)))
        (self.home / "photos" / new).parent.mkdir(exist_ok=True)
        (self.home / "photos" / name).replace(self.home / "photos" / new)
        self.photos[new] = self.photos.pop(name)

    @rule()
    def reindex(self) -> None:
        """A touched photo is a generation too, of the same content."""
        generation, before = self.manifest().generation, self.held
        assert self.forks.run("reindex", self.home) == 0
        if self.complete and before is not None and self.manifest().generation != generation:
            self.earlier = [before]
        self.held, self.complete = self.expected(), True

    @rule(step=st.integers(1, 60))
    def reindex_killed(self, step: int) -> None:
        generation, before = self.manifest().generation, self.held
        code = self.forks.run("reindex", self.home, kill_at=f"any:{step}")
        assert code in (0, -signal.SIGKILL)
        manifest = self.manifest()
        if manifest.generation != generation:
            if self.complete and before is not None:
                self.earlier = [before]
            self.complete = manifest.complete
            self.held = self.expected() if manifest.complete else None

    @rule(verb=st.sampled_from(["compact", "gc"]), step=st.integers(1, 30))
    def maintain(self, verb: str, step: int) -> None:
        assert self.forks.run(verb, self.home, kill_at=f"any:{step}") in (0, -signal.SIGKILL)
        assert self.forks.run(verb, self.home) == 0

    @precondition(lambda self: bool(self.earlier))
    @rule()
    def rollback(self) -> None:
        assert self.forks.run("rollback", self.home) == 0
        self.held, self.earlier, self.complete = self.earlier.pop(), [], True

    @invariant()
    def is_whole(self) -> None:
        index = Index(self.home / "index")
        assert index.verify() == []
        held = content(index)
        for name, (record, *_) in held.items():
            assert record.label == name.split("/")[0]
            assert record.path == name
        assert len(index.manifest.earlier) <= 2
        if self.held is not None:
            assert {name: (value[0].sha256, value[1]) for name, value in held.items()} == self.held

    def manifest(self) -> Any:
        return Index(self.home / "index").manifest


def run(examples: int, steps: int) -> None:
    with Forks() as forks:
        Nights.forks = forks
        run_state_machine_as_test(Nights, settings=settings(max_examples=examples, stateful_step_count=steps))


def test_random_nights() -> None:
    run(2, 15)


@pytest.mark.slow
def test_many_random_nights() -> None:
    run(100, 50)
