"""Years of nights: small random changes with a store attached end in what a first run would have made."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from stores_helpers import content
from tiny import paint, tiny, tiny_config

from pipeline.stages.reindex import reindex
from pipeline.stores import Index, open_store

__all__ = ["tiny"]


def resident() -> int:
    """Bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def change(photos: Path, rng: np.random.Generator) -> None:
    """Up to three of: a photo comes, changes, moves, goes."""
    there = sorted(photos.rglob("*.png"))
    for _ in range(int(rng.integers(1, 4))):
        name = photos / f"{'abc'[int(rng.integers(3))]}" / f"{int(rng.integers(40))}.png"
        file = there[int(rng.integers(len(there)))]
        kind = rng.integers(4)
        if kind == 0 or len(there) < 10:
            paint(name, int(rng.integers(10**6)))
        elif not file.exists():
            continue
        elif kind == 1:
            paint(file, int(rng.integers(10**6)))
        elif kind == 2:
            name.parent.mkdir(exist_ok=True)
            file.replace(name)
        else:
            file.unlink()


def soak(home: Path, rounds: int) -> None:
    rng = np.random.default_rng(9)
    for number in range(20):
        paint(home / "photos" / "abc"[number % 3] / f"{number}.png", number)
    config = tiny_config(home)
    config = config.model_copy(update={"store": config.store.model_copy(update={"kind": "ann"})})
    files, images, memory, started = [], [], [], time.monotonic()
    for _ in range(rounds):
        change(home / "photos", rng)
        images.append(reindex(config).images)
        files.append(sum(path.is_file() for path in (home / "index").rglob("*")))
        memory.append(resident())
    index = Index(home / "index")
    assert index.verify() == []
    scratch = config.model_copy(update={"index": home / "scratch"})
    reindex(scratch)
    assert content(index) == content(Index(home / "scratch"))
    store = open_store("ann", index)
    rows = store.read(sorted(index.records))
    assert list(store.ids()) == sorted(index.records)
    assert {name: vector.tobytes() for name, vector in zip(rows.ids, rows.vectors, strict=True)} == {
        name: values[1] for name, values in content(index).items()
    }
    shutil.rmtree(home / "scratch")
    early = rounds // 4
    print(
        f"{rounds} rounds in {time.monotonic() - started:.0f} s; at most {max(files)} files of {max(images)} images; "
        f"memory {memory[early] >> 20} MiB, then {memory[-1] >> 20} MiB"
    )
    # A hundred reports, what there is one of, and of three kinds a file for each image in two generations and one that
    # is about to be collected: no more, however many nights pass.
    assert max(files) <= 120 + 3 * 3 * max(images)
    assert memory[-1] - memory[early] < 96 << 20


@pytest.mark.usefixtures("tiny")
def test_a_month(tmp_path: Path) -> None:
    soak(tmp_path, 30)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_two_thousand_nights(tmp_path: Path) -> None:
    soak(tmp_path, 2000)
