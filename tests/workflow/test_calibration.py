"""`relook calibrate`, from labels to a file of the index, and the searches that use it."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from cli_helpers import ROOT, document, relook

import relook as python
from pipeline.config import load_config
from pipeline.errors import RelookError, UsageError
from pipeline.rerank import RerankStep
from pipeline.rerank.calibration import Calibration
from pipeline.stages.calibrate import calibrate
from pipeline.workflow.calibration.pairs import LabelledList
from pipeline.workflow.calibration.tuning import TOLERANCE, fit_chain, held_out, replay
from pipeline.workflow.fusion.fusion_file import Fusion, StepFusion, fusion_path, read_fusion, write_fusion
from pipeline.workflow.gallery import Gallery

PLATT = Calibration("platt", (5.0, -2.0), (), 0.5, 1.0)


def vectors(path: Path, labels: int, each: int = 6) -> Path:
    """A table of vectors: each label a direction, with noise."""
    rng = np.random.default_rng(0)
    rows = []
    for label in range(labels):
        centre = rng.standard_normal(16)
        for number in range(each):
            vector = centre + 1.1 * rng.standard_normal(16)
            vector /= np.linalg.norm(vector)
            rows.append([f"{label}-{number}", vector.tolist(), f"label {label}"])
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["vecid", "vectors", "labels"], *rows])
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of ten labels, without calibration."""
    folder = tmp_path_factory.mktemp("calibration")
    done = relook("import", vectors(folder / "vectors.csv", 10), "--index", folder / "index")
    assert done.returncode == 0, done.stderr
    return folder / "index"


@pytest.fixture
def index(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "index")
    return tmp_path / "index"


def test_the_verb_writes_what_searches_and_evaluations_use(index: Path) -> None:
    found = document("calibrate", "--index", index)
    assert found["file"] == str(fusion_path(index))
    assert (found["queries"], found["labels"], found["chain"]) == (60, 10, ["superglobal"])
    assert found["after"]["mAP"] >= found["before"]["mAP"]
    assert found["held_out"]["pairs"] == found["before"]["pairs"]  # SuperGlobal has no margin
    difference = found["held_out"]["mAP"] - found["before"]["mAP"]
    assert found["held_out"]["difference"] == pytest.approx(difference, abs=0.011)
    kept = json.loads(fusion_path(index).read_text())
    assert kept["chain"] == ["superglobal"]
    assert {"weight", "margin", "incoming", "own", "settings", "pairs"} <= kept["steps"][0].keys()
    assert kept["steps"][0]["pairs"] == found["steps"][0]["pairs"] == 60 * 59

    with_it = relook("evaluate", "--index", index, "--json")
    assert with_it.stderr.count("fusing scores as") == 1
    measured = json.loads(with_it.stdout)
    assert measured["reranked"]["mAP"] == pytest.approx(found["after"]["mAP"], abs=0.011)
    assert measured["pairs"] == found["after"]["pairs"]
    without = document("evaluate", "--index", index, "--set", "rerank.calibration=none")
    assert without["reranked"]["mAP"] == pytest.approx(found["before"]["mAP"], abs=0.011)
    assert document("info", "--index", index)["fusion"] == {
        "chain": ["superglobal"],
        "file": str(fusion_path(index)),
        "fits": True,
    }
    with python.open(index) as gallery:
        hits = gallery.search(id="0-0", top_k=5)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    assert document("calibrate", "--index", index, "--remove")["removed"]
    assert not fusion_path(index).exists()
    assert not document("calibrate", "--index", index, "--remove")["removed"]
    assert document("info", "--index", index)["fusion"] is None


def test_too_few_labels_say_how_many_it_takes(tmp_path: Path) -> None:
    assert not relook("import", vectors(tmp_path / "v.csv", 3), "--index", tmp_path / "few").returncode
    done = relook("calibrate", "--index", tmp_path / "few")
    assert done.returncode == 1
    assert "3 labels with two images and 90 relevant candidates; calibrate needs 8 labels and 50" in done.stderr
    assert not fusion_path(tmp_path / "few").exists()


@pytest.mark.parametrize("more", [["evaluate.split=test"], ["rerank.chain=[]"]])
def test_a_test_split_and_no_reranker_are_refused(index: Path, more: list[str]) -> None:
    with pytest.raises(UsageError):
        calibrate(load_config(None, [f"index={index}", *more]))


def fusion(index: Path, **changes: Any) -> Fusion:
    """The fusion that `calibrate` would write, but for `changes` of its link."""
    calibrate(load_config(None, [f"index={index}"]))
    whole = read_fusion(index)
    assert whole is not None
    step = whole.steps[0]
    values = {**step.__dict__, "weight": 1.0, "incoming": PLATT, "own": PLATT, **changes}
    return Fusion(whole.fingerprint, (StepFusion(**values),))


def used(index: Path, *settings: str) -> RerankStep:
    with Gallery(load_config(None, [f"index={index}", *settings])) as gallery:
        return gallery.chain()[0]


def test_what_the_user_sets_comes_first(index: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "relook")
    write_fusion(index, fusion(index, margin=0.2))
    step = used(index)
    assert (step.weight, step.margin, step.incoming) == (1.0, 0.2, PLATT)
    step = used(index, "rerank.superglobal.margin=0.4")
    assert (step.weight, step.margin) == (1.0, 0.4)
    assert used(index, "rerank.superglobal.margin=null").margin is None
    for setting in ("rerank.superglobal.weight=0.3", "rerank.calibration=none"):
        step = used(index, setting)
        assert (step.weight, step.margin, step.incoming) == (0.3, None, None)
    assert "not used, since rerank.superglobal.weight is set" in caplog.text


def test_another_model_or_other_settings_are_not_fused(index: Path, caplog: pytest.LogCaptureFixture) -> None:
    right = fusion(index)
    write_fusion(index, Fusion("0123456789abcdef", right.steps))
    assert used(index).incoming is None
    assert f"{fusion_path(index)}: not used, made for the model 0123456789abcdef" in caplog.text
    assert "relook calibrate --rerank superglobal" in caplog.text
    write_fusion(index, right)
    assert used(index).incoming == PLATT
    caplog.clear()
    assert used(index, "rerank.superglobal.k=3").incoming is None
    assert "rerank.superglobal.k was 9 when it was made and is 3" in caplog.text


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', '{"format": 1, "fingerprint": "", "steps": [{}]}', "[]"])
def test_a_damaged_file_is_one_line(index: Path, text: str) -> None:
    fusion_path(index).parent.mkdir(exist_ok=True)
    fusion_path(index).write_text(text)
    with pytest.raises(RelookError, match=r"fusion.json: cannot be read .* relook calibrate --remove") as caught:
        read_fusion(index)
    assert "\n" not in str(caught.value)


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.workflow.fusion.fusion_file import Fusion, read_fusion, write_fusion
index, instant = Path(sys.argv[1]), sys.argv[2]
old = read_fusion(index)
def fatal(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(os, instant, fatal)
write_fusion(index, Fusion("new", old.steps))
"""


@pytest.mark.parametrize("instant", ["fsync", "replace"])
def test_a_kill_while_it_is_written_leaves_the_file_before(index: Path, instant: str) -> None:
    write_fusion(index, Fusion("old", (StepFusion("superglobal", {}, 0.5, None, PLATT, PLATT, 9),)))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(index), instant], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    kept = read_fusion(index)
    assert kept is not None
    assert kept.fingerprint == "old"


def lists(labels: int, signal_: float, seed: int = 0) -> list[LabelledList]:
    """Lists of 40 candidates of which 4 are relevant; the reranker knows them as well as `signal_` says."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(labels * 5):
        relevant = np.zeros(40, np.bool_)
        relevant[rng.choice(12, 4, replace=False)] = True
        scores = np.sort(rng.random(40).astype(np.float32))[::-1]
        own = (signal_ * relevant + rng.random(40)).astype(np.float32) * 7
        found.append(LabelledList(f"label {number // 5}", scores, relevant, 4, {"x": own}))
    return found


def step(**attributes: Any) -> RerankStep:
    return RerankStep("x", cast("Any", SimpleNamespace(**attributes)), 30, 0.5)


def test_a_useless_reranker_has_no_say() -> None:
    (good,), counts = fit_chain([step()], lists(12, 1.0))
    assert good.weight < 0.5
    assert counts == [60 * 30]
    useless = lists(12, 0.0)
    (bad,), _ = fit_chain([step()], useless)
    assert good.own is not None
    assert bad.own is not None
    spread = [np.ptp(known([0.0, 14.0])) for known in (bad.own, good.own)]  # a flat map leaves the order to the search
    assert spread[0] < 0.2 < spread[1]
    assert replay([bad], useless).precision.mean() >= replay((), useless).precision.mean() - TOLERANCE


def test_the_margin_saves_pairs_and_costs_no_more_than_the_tolerance() -> None:
    known = lists(12, 1.0)
    (fitted,), _ = fit_chain([step()], known)
    assert fitted.margin is not None
    whole = replay([step()], known)
    assert replay([fitted], known).pairs["x"] < 0.7 * whole.pairs["x"]
    (all_,), _ = fit_chain([step(scores_lists=True)], known)
    assert all_.margin is None
    assert (all_.incoming, all_.own) == (None, None)
    assert replay([fitted], known).precision.mean() >= whole.precision.mean() - TOLERANCE


def test_held_out_figures_of_a_useless_reranker_do_not_rise() -> None:
    known = lists(12, 0.0)
    before = replay((), known).precision
    assert held_out([step()], known, 0).precision.mean() <= before.mean() + 0.01
    good = lists(12, 1.0)
    assert held_out([step()], good, 0).precision.mean() > replay((), good).precision.mean() + 0.2
