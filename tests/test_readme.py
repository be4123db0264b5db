"""The commands that README and docs show run as they stand there, in order, in an empty folder with a user's photos.

Installing, the demo and the test-suite itself are run by `.ci/run`.
"""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.checkpoints import write_official
from pipeline.rerank.rrt.network import RRTNetwork, RRTShape

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "data" / "samples"
PAGES = [
    "README.md",
    "docs/training.md",
    "docs/exchange.md",
    "docs/results.md",
    "docs/evaluation.md",
    "docs/index-format.md",
    "docs/cron.md",
    "docs/inputs.md",
    "docs/papers.md",
    "docs/representations.md",
    "docs/speed.md",
    "docs/ann.md",
    "docs/licences.md",
    "data/README.md",
]

# Run by .ci/run, by test_benchmarks.py (whole data sets, in miniature), or not by us to run.
ELSEWHERE = (
    *("pip install", "pytest", "python cli.py demo", "relook demo", "tensorboard", "python data/make_samples.py"),
    "relook evaluate --config configs/",
)
# The same commands on smaller pictures and fewer pairs: the figures of a page are not what this test is about.
QUICKER = {
    "extract": ["--set", "describe.image.size=96"],
    "train-rerank": ["--set", "train_rerank.triplets=64", "--set", "train_rerank.epochs=1"],
    "train-global": ["--set", "train_global.epochs=1", "--set", "train_global.augment.size=96"],
}


def commands(page: str) -> list[str]:
    """The lines of fenced and indented blocks that call relook."""
    text = (ROOT / page).read_text(encoding="utf-8")
    fenced = "\n".join(re.findall(r"^```\n(.*?)^```", text, re.M | re.S)).splitlines()
    indented = re.findall(r"^ {4}(\S.*)$", text, re.M)
    return [line for line in fenced + indented if line.startswith(("relook ", "python ", "pip ", "pytest"))]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: `photos/` with `labels.csv`, a `photo.jpg` to ask with, `configs/`, weights of RRT as its
    authors release them in `rrt.pt`, and `vectors.csv` from elsewhere."""
    folder = tmp_path_factory.mktemp("home")
    write_official(folder / "rrt.pt", RRTNetwork(RRTShape(64, 32, 4, 1, 64)).state_dict(), "state")
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "photos").mkdir()
    nightly = "index: nightly\ncatalog: {images: photos}\ndescribe: {image: {size: 96}}\n"
    (folder / "prod.yaml").write_text(nightly)
    with (SAMPLES / "manifest.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    labels = [label for label in dict.fromkeys(row["label"] for row in rows) if label][:6]
    kept = [["path", "label"]]
    for row in rows:
        if row["label"] in labels and int(Path(row["path"]).stem[-2:]) < 5:
            shutil.copy(SAMPLES / row["path"], folder / "photos")
            kept.append([Path(row["path"]).name, row["label"]])
    with (folder / "photos" / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(kept)
    shutil.copy(folder / "photos" / kept[1][0], folder / "photo.jpg")
    vectors = np.eye(len(kept) - 1).tolist()
    with (folder / "vectors.csv").open("w", newline="") as stream:
        rows = [[path, vector, label] for (path, label), vector in zip(kept[1:], vectors, strict=True)]
        csv.writer(stream).writerows([["vecid", "vectors", "labels"], *rows])
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_commands_run(page: str, home: Path) -> None:
    for line in commands(page):
        if line.startswith((*ELSEWHERE, "python benchmarks/")):
            continue
        words = shlex.split(line.removeprefix("python cli.py").removeprefix("relook"))
        succeeds(home, line, str(ROOT / "cli.py"), *words, *QUICKER.get(words[0], []))
    for code in re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S):
        succeeds(home, code, "-c", code)


def succeeds(home: Path, what: str, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=home,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "120", "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, f"{what}\n{done.stdout}{done.stderr}"


def test_the_readme_begins_with_the_two_commands() -> None:
    assert commands("README.md")[:2] == ["pip install -e . && python cli.py demo", "pip install -e '.[dev]' && pytest"]


def test_bytes_are_what_their_formulas_say() -> None:
    text = (ROOT / "docs" / "representations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|[^|]*\|[^|]*\| ([\d,x()+/ ]+) \| ([\d,]+) \| ([\d,]+) \|$", text, re.M)
    assert len(rows) >= 10
    for formula, payload, file in rows:
        assert eval(formula.replace(",", "").replace("x", "*")) == float(payload.replace(",", "")), formula
        # Parquet is compressed, HDF5 is not.
        assert float(file.replace(",", "")) >= 0.9 * float(payload.replace(",", "")), formula


def test_named_files_exist() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert ((ROOT / page).parent / target).exists(), f"{page} points at {target}"
        for script in re.findall(r"(?:benchmarks|data)/\w+\.py", text):
            assert (ROOT / script).exists(), f"{page} names {script}"
