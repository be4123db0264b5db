"""The commands that README and docs show run as they stand there, in order, in an empty folder with a user's photos.

Installing, the demo and the test-suite itself are run by `.ci/run`.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from doc_commands import QUICKER, ROOT, commands, succeeds

SAMPLES = ROOT / "data" / "samples"
PAGES = [
    "README.md",
    "docs/index.md",
    "docs/start.md",
    "docs/own-photos.md",
    "docs/reproduce.md",
    "docs/many-gpus.md",
    "docs/rerankers.md",
    "docs/rerankers/superglobal.md",
    "docs/rerankers/matching.md",
    "docs/rerankers/rrt.md",
    "docs/rerankers/cvnet.md",
    "docs/rerankers/ames.md",
    "docs/rerankers/elvis.md",
    "docs/rerankers/classics.md",
    "docs/rerankers/locore.md",
    "docs/reference/json.md",
    "docs/reference/exit-codes.md",
    "docs/reference/python.md",
    "docs/troubleshooting.md",
    "docs/training.md",
    "docs/adapt.md",
    "docs/label.md",
    "docs/architecture.md",
    "docs/exchange.md",
    "docs/python-api.md",
    "docs/duplicates.md",
    "docs/matching.md",
    "docs/results.md",
    "docs/evaluation.md",
    "docs/fusion.md",
    "docs/reports.md",
    "docs/index-format.md",
    "docs/cron.md",
    "docs/scale.md",
    "docs/inputs.md",
    "docs/papers.md",
    "docs/representations.md",
    "docs/speed.md",
    "docs/stores.md",
    "docs/performance.md",
    "docs/runtimes.md",
    "docs/ann.md",
    "docs/licences.md",
    "data/README.md",
]

# docs/serve.md is run by test_serve_page.py: a server does not end.

# Run by .ci/run, by test_benchmarks.py (whole data sets, in miniature), by test_ray_engine.py, or not by us to run.
ELSEWHERE = (
    *("pip install", "pytest", "python cli.py demo", "relook demo", "tensorboard", "python data/make_samples.py"),
    *("relook evaluate --config configs/", "relook extract photos --index onray --engine ray"),
)


@pytest.mark.parametrize("page", PAGES)
def test_commands_run(page: str, home: Path) -> None:
    for line in commands(page):
        if line.startswith((*ELSEWHERE, "python benchmarks/", "python -m benchmarks")):
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
    for page in [*PAGES, "docs/serve.md"]:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert ((ROOT / page).parent / target).exists(), f"{page} points at {target}"
        for script in re.findall(r"(?:benchmarks|data)/\w+\.py", text):
            assert (ROOT / script).exists(), f"{page} names {script}"
