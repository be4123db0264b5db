"""The commands that README and docs show run as they stand there, in order, in an empty folder with a user's photos.

Installing, the demo and the test-suite itself are run by `.ci/run`.
"""

from __future__ import annotations

import csv
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from doc_commands import QUICKER, ROOT, commands, succeeds

from pipeline.checkpoints import write_official
from pipeline.rerank.rrt.network import RRTNetwork, RRTShape

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
