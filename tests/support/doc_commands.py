"""The commands that README and docs show, as their tests run them: in a user's folder, as a user would."""

from __future__ import annotations

import re
from pathlib import Path

from preloaded import PRELOADED

ROOT = Path(__file__).resolve().parents[2]

# The same commands on smaller pictures and fewer pairs: the figures of a page are not what this test is about.
QUICKER = {
    "extract": ["--set", "describe.image.size=96"],
    "train-rerank": ["--set", "train_rerank.triplets=64", "--set", "train_rerank.epochs=1"],
    "train-detector": ["--set", "train_detector.triplets=64", "--set", "train_detector.epochs=1"],
    "adapt": ["--set", "adapt.keypoints=256", "--set", "adapt.neighbours=5"],
    "train-global": ["--set", "train_global.epochs=1", "--set", "train_global.augment.size=96"],
}


def commands(page: str) -> list[str]:
    """The lines of fenced and indented blocks that call relook."""
    text = (ROOT / page).read_text(encoding="utf-8")
    fenced = "\n".join(re.findall(r"^```\n(.*?)^```", text, re.M | re.S)).splitlines()
    indented = re.findall(r"^ {4}(\S.*)$", text, re.M)
    return [line for line in fenced + indented if line.startswith(("relook ", "python ", "pip ", "pytest"))]


def succeeds(home: Path, what: str, *words: str) -> None:
    """Run `cli.py` or `-c` with what follows, forked from a process that has loaded the libraries (`preloaded`)."""
    own = words[1:] if words[0] == str(ROOT / "cli.py") else words
    done = PRELOADED.run(list(own), home, {"COLUMNS": "120"})
    if "describe.precision=bfloat16" in words and not _has_bfloat16():
        assert done.returncode == 1, f"{what}\n{done.stdout}{done.stderr}"
        assert "no instructions for bfloat16" in done.stderr
        return
    assert done.returncode == 0, f"{what}\n{done.stdout}{done.stderr}"


def _has_bfloat16() -> bool:
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
