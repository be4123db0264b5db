"""Running the command line as a user does, and a small collection of things seen from several views."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from PIL import Image, ImageDraw
from preloaded import PRELOADED

ROOT = Path(__file__).resolve().parents[2]
# Where a user may be: never the checkout, in which a command without --index would leave one.
ELSEWHERE = Path(tempfile.mkdtemp(prefix="relook-"))
QUICK = ["--set", "describe.image.size=96", "--set", "describe.locals.scales=[1.0]", "--set", "describe.locals.count=9"]
QUICK += ["--set", "describe.globals.scales=[1.0]"]


def relook(
    *arguments: object, cwd: Path = ELSEWHERE, stdin: IO[bytes] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line; in a new interpreter where its environment or its input is what the test is about."""
    if stdin is None and not environment:
        return PRELOADED.run([*map(str, arguments)], cwd, {"COLUMNS": "160"})
    return subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)],
        capture_output=True,
        stdin=stdin,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "160", **environment},
        timeout=300,
        check=False,
    )


def document(*arguments: object) -> dict:
    done = relook(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def refused(code: int, *arguments: object) -> str:
    """The one line that a refused command ends with."""
    done = relook(*arguments)
    assert done.returncode == code, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def draw(path: Path, label: int, view: int) -> None:
    """A thing of its own shape and colours, seen in another place and light each time."""
    rng = np.random.default_rng((label, view))
    ground = Image.fromarray(rng.integers(60, 190, (6, 8, 3), dtype=np.uint8)).resize((128, 96))
    pen = ImageDraw.Draw(ground)
    x, y, size = int(rng.integers(5, 50)), int(rng.integers(5, 30)), int(rng.integers(45, 60))
    own = np.random.default_rng(label)
    for part in range(5):
        colour = tuple(int(value) for value in own.integers(0, 255, 3))
        left, top = own.random(2) * 0.6
        box = [x + left * size, y + top * size, x + (left + 0.4) * size, y + (top + 0.4) * size]
        (pen.ellipse if (label + part) % 2 else pen.rectangle)(box, fill=colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    ground.save(path, quality=92)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of six things in six views each, and four distractors."""
    folder = tmp_path_factory.mktemp("photos")
    rows = [["path", "label", "split"]]
    for label in range(10):
        for view in range(6 if label < 6 else 1):
            path = f"thing {label}/view_{view}.jpg"
            draw(folder / path, label, view)
            rows.append([path, f"thing {label}" if label < 6 else "", "val" if view > 3 else "train"])
    with (folder / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def index(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index") / "index"
    result = document("extract", "--images", photos, "--index", folder, *QUICK)
    assert (result["images"], result["added"], result["failed"]) == (40, 40, 0)
    return folder


@pytest.fixture(scope="module")
def trained(index: Path) -> dict:
    return document("train-rerank", "--reranker", "rrt", "--index", index, "--set", "train_rerank.epochs=2")
