"""`relook adapt` on the sample scenes without their labels: pure groups, a better search, vetoes, kills, refusals."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_helpers import ROOT, document, refused, relook

from pipeline.catalog import load_catalog
from pipeline.config import load_config
from pipeline.stores import GlobalStore, Index
from pipeline.train.mining.answers import AnswerFile
from pipeline.train.mining.evidence import Evidence
from pipeline.workflow.gallery import open_gallery
from pipeline.workflow.labelling.choice import choose_pairs
from pipeline.workflow.labelling.session import LabellingSession
from pipeline.workflow.progress import Silent
from pipeline.workflow.training.adaptation import HeldOut, is_better, separation_of, unit
from pipeline.workflow.training.mined_groups import SURE, group_pairs
from pipeline.workflow.training.mining import MinedPairs, way_of_matching

SAMPLES = ROOT / "data" / "samples"
SMALL = ["--set", "describe.image.size=192", "--set", "describe.globals.scales=[1.0]"]
SMALL += ["--set", "describe.locals.count=0"]
KEYPOINTS = ["--set", "describe.keypoints.kind=xfeat", "--set", "describe.keypoints.count=192"]
KEYPOINTS += ["--set", "describe.keypoints.size=416"]
QUICK = ["--set", "adapt.neighbours=5", "--set", "adapt.keypoints=192", "--set", "adapt.folds=3"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The label of each validation photo of the demo, by id."""
    with (SAMPLES / "manifest.csv").open() as stream:
        return {row["path"]: row["label"] for row in csv.DictReader(stream) if row["split"] == "val"}


@pytest.fixture(scope="module")
def index(scenes: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of these photos without labels."""
    folder = tmp_path_factory.mktemp("scenes")
    for name in scenes:
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SAMPLES / name, folder / "photos" / name)
    document("extract", folder / "photos", "--index", folder / "index", *SMALL, *KEYPOINTS)
    return folder / "index"


@pytest.fixture(scope="module")
def adapted(index: Path) -> dict[str, Any]:
    """What a run found and wrote."""
    out = index.parent / "mine.safetensors"
    more = ["--html", index.parent / "groups.html", "--labels", index.parent / "groups.csv"]
    return document("adapt", "--index", index, "--out", out, *more, *QUICK)


def test_groups_are_pure(adapted: dict[str, Any], scenes: dict[str, str]) -> None:
    pairs = [pair for group in adapted["groups"] for pair in combinations([one["id"] for one in group["members"]], 2)]
    same = [bool(scenes[a]) and scenes[a] == scenes[b] for a, b in pairs]
    assert np.mean(same) >= 0.98
    assert len(adapted["groups"]) == adapted["found"]["groups"] >= 8
    weakest = [group["weakest"] for group in adapted["groups"]]
    assert weakest == sorted(weakest)


def test_the_checkpoint_searches_better(index: Path, adapted: dict[str, Any], scenes: dict[str, str]) -> None:
    assert adapted["checkpoint"] == str(index.parent / "mine.safetensors")
    other = index.parent / "adapted"
    settings = ["--set", f"describe.checkpoint={adapted['checkpoint']}"]
    document("extract", index.parent / "photos", "--index", other, *SMALL, *settings)
    assert mean_precision(other, scenes) >= mean_precision(index, scenes) + 3
    trials = [trial for trial in adapted["trials"] if trial["taken"]]
    assert trials[0]["name"] == "as it is"
    assert all(trial["gain"] > 0 for trial in trials[1:])
    assert trials[1]["separation"] > trials[0]["separation"]
    line = refused(1, "adapt", "--index", other, "--out", index.parent / "other.safetensors")
    assert "made by a describer that was adapted; give the index of the one that it was made from" in line


def test_the_page_shows_groups_and_their_ids(index: Path, adapted: dict[str, Any]) -> None:
    page = (index.parent / "groups.html").read_text()
    assert page.count('<section class="query">') == len(adapted["groups"])
    assert adapted["groups"][0]["members"][0]["id"] in page


def test_groups_are_labels_for_the_training_verbs(index: Path, adapted: dict[str, Any]) -> None:
    records = {record.id: record for record in load_catalog(str(index.parent / "groups.csv")).records}
    assert len(records) == adapted["found"]["images"]
    for group in adapted["groups"]:
        labels = {records[member["id"]].label for member in group["members"]}
        assert len(labels) == 1
        assert all(Path(member["path"]) == index.parent / records[member["id"]].path for member in group["members"])
    labelled = index.parent / "labelled"
    shutil.copytree(index, labelled)
    done = document("extract", index.parent / "groups.csv", "--index", labelled, *SMALL, *KEYPOINTS)
    assert (done["added"], done["changed"], done["removed"]) == (0, 0, 0)
    found = {name: record.label for name, record in Index(labelled).records.items()}
    assert found == {name: record.label for name, record in records.items()}


def test_a_second_run_matches_nothing_again_and_a_veto_leaves_a_group_out(index: Path, adapted: dict[str, Any]) -> None:
    veto, out = index.parent / "veto.txt", index.parent / "mine.safetensors"
    refused_group = adapted["groups"][0]
    veto.write_text(f"# not one thing\n{refused_group['members'][-1]['id']}\ngone.jpg\n")
    again = document("adapt", "--index", index, "--out", out, "--veto", veto, *QUICK)
    assert again["found"]["known"] == again["found"]["candidates"] == adapted["found"]["candidates"]
    assert again["found"]["vetoed"] == 1
    assert len(again["groups"]) == len(adapted["groups"]) - 1
    assert refused_group["members"] not in [group["members"] for group in again["groups"]]


def test_answers_in_the_order_of_label_find_true_pairs_sooner_than_at_random(
    index: Path, adapted: dict[str, Any], scenes: dict[str, str]
) -> None:
    found = known(index)
    assert found.compared.all()
    names = np.array([scenes[record.id] for record in found.records])
    chosen = after_answers(found, names, None)
    random = np.mean([after_answers(found, names, np.random.default_rng(seed)) for seed in range(3)], axis=0)
    assert (chosen > random).all(), (chosen, random)
    assert chosen[-1] >= 1.15 * random[-1]


def after_answers(pairs: MinedPairs, names: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """True pairs less wrong ones inside of groups after 20, 40 and 60 answers by the labels."""
    found = []
    for clicks in range(61):
        choice = choose_pairs(pairs, load_config().adapt.least)
        if clicks in (20, 40, 60):
            left, right = np.triu_indices(len(names), 1)
            inside = (choice.number[left] == choice.number[right]) & (choice.number[left] >= 0)
            same = (names[left] == names[right]) & (names[left] != "")
            found.append(np.where(same, 1, -1)[inside].sum())
        number = choice.order[0] if rng is None else rng.choice(np.flatnonzero(pairs.answers == ""))
        first, second = names[pairs.pairs[number]]
        answers = pairs.answers.copy()
        answers[number] = "yes" if first == second != "" else "no"
        pairs = replace(pairs, answers=answers)
    return np.array(found)


def known(index: Path) -> MinedPairs:
    """What is known of the pairs of the index."""
    words = [word for word in QUICK if word != "--set"]
    config = load_config(overrides=[f"index={index}", f"adapt.out={index.parent / 'mine.safetensors'}", *words])
    with open_gallery(config) as gallery:
        session = LabellingSession(gallery, config, AnswerFile(index.parent / "none.csv"), Silent())
    return session.mined


def test_answers_of_a_person_are_surest(index: Path, adapted: dict[str, Any], scenes: dict[str, str]) -> None:
    pairs, out = index.parent / "pairs.csv", index.parent / "answered.safetensors"
    shutil.copy(index.parent / "mine.pairs.sqlite", index.parent / "answered.pairs.sqlite")
    own = next(group["members"] for group in adapted["groups"] if len(group["members"]) > 2)
    other = next(name for name, label in scenes.items() if label == "" and name != own[0]["id"])
    with pairs.open("w") as stream:
        stream.write("first,second,answer\n")
        stream.writelines(f"{own[0]['id']},{one['id']},no\n" for one in own[1:])
        stream.write(f"{own[0]['id']},{other},yes\ngone.jpg,{other},yes\n")
    found = document("adapt", "--index", index, "--out", out, "--answers", pairs, *QUICK)
    assert found["found"]["answered"] == len(own)
    together = [{member["id"] for member in group["members"]} for group in found["groups"]]
    assert {own[0]["id"], other} in together
    assert all(own[0]["id"] not in group or len(group) == 2 for group in together)


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(index: Path, adapted: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    words = ["adapt", "--index", str(index), "--out", str(out), *QUICK]
    code = (
        "import os, signal, sys\n"
        "from pipeline.train.mining.pair_file import PairFile\n"
        "keep, calls = PairFile.keep, []\n"
        "def killed(self, found):\n"
        "    keep(self, found)\n"
        "    calls.append(len(found))\n"
        "    if len(calls) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "PairFile.keep = killed\n"
        "from pipeline.cli import main\n"
        "sys.argv = ['relook', *sys.argv[1:]]\n"
        "main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, *words], env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not out.exists()
    result = document(*words)
    assert result["found"]["known"] == 2 * 64
    assert result["groups"] == adapted["groups"]


def test_too_little_is_said_and_changes_nothing(index: Path, adapted: dict[str, Any]) -> None:
    out = index.parent / "mine.safetensors"
    before = out.read_bytes()
    line = refused(1, "adapt", "--index", index, "--out", out, *QUICK, "--set", "adapt.pairs=100000")
    assert f"{adapted['found']['groups']} groups and {adapted['found']['pairs']} verified pairs" in line
    assert "8 groups and 100000 pairs, so nothing was learnt and nothing was written" in line
    assert out.read_bytes() == before


def mean_precision(directory: Path, labels: dict[str, str]) -> float:
    """mAP in percent: every labelled photo queries all others."""
    index = Index(directory)
    ids = list(index.records)
    vectors = GlobalStore(index).read(ids)
    names = np.array([labels[name] for name in ids])
    counts = Counter(names.tolist())
    found = []
    for row in [row for row, name in enumerate(names) if name and counts[name] > 1]:
        order = [place for place in np.argsort(-(vectors @ vectors[row])) if place != row]
        right = np.flatnonzero(names[order] == names[row])
        found.append(np.mean((np.arange(len(right)) + 1) / (right + 1)))
    return 100 * float(np.mean(found))


# --- without photos ---------------------------------------------------------------------------------------------------


def mined(
    pairs: list[tuple[int, int, float, float]], count: int = 7, answers: dict[tuple[int, int], str] | None = None
) -> MinedPairs:
    """Pairs of (row, row, support, spread), all of them compared; answers by rows."""
    vectors = unit(np.random.default_rng(0).standard_normal((count, 6)).astype(np.float32))
    rows = np.array([pair[:2] for pair in pairs], np.int64)
    evidence = [Evidence(int(support), support, spread) for _, _, support, spread in pairs]
    records: list[Any] = [None] * count
    place_of = {f"{row}": row for row in range(count)} | {"copy of 3": 3}
    similarity = np.einsum("pd,pd->p", vectors[rows[:, 0]], vectors[rows[:, 1]])
    said = np.array([(answers or {}).get(pair[:2], "") for pair in pairs], "<U6")
    return MinedPairs(records, vectors, rows, evidence, similarity, place_of, 0, said, np.ones(len(rows), np.bool_))


def test_pairs_become_groups_and_doubtful_neighbours() -> None:
    found = mined(
        [
            *((0, 1, 60, 0.2), (1, 2, 22, 0.2), (0, 2, 1, 0.2), (3, 4, 50, 0.2), (0, 3, 1, 0.2)),
            *((0, 5, 11, 0.2), (4, 5, 5, 0.2), (5, 6, 90, 0.001)),
        ]
    )
    groups = group_pairs(found, load_config().adapt)
    assert groups.groups.number.tolist() == [0, 0, -1, 1, 1, -1, -1]
    # A pair of 11 with a photo without a group teaches; one of 5 does not, nor does one that another contradicts.
    assert groups.groups.pairs.tolist() == [[0, 1], [3, 4], [0, 5]]
    assert (groups.cut, groups.degenerate, groups.vetoed) == (1, 1, 0)
    assert groups.disagreeing == 2
    unsure = [sorted(rows.tolist()) for rows in groups.material.unsure]
    assert unsure == [[2, 5], [2, 5], [0, 1], [5], [5], [0, 1, 3, 4, 6], [5]]
    without = group_pairs(found, load_config().adapt, ["copy of 3", "gone"])
    assert without.groups.number.tolist() == [0, 0, -1, -1, -1, -1, -1]
    assert without.groups.pairs.tolist() == [[0, 1], [0, 5]]
    assert without.vetoed == 1


def test_an_answer_is_surer_than_any_match() -> None:
    pairs = [(0, 1, 60.0, 0.2), (1, 2, 1.0, 0.2), (0, 2, 10.0, 0.2), (3, 4, 90.0, 0.2), (4, 5, 30.0, 0.2)]
    said = {(1, 2): "yes", (3, 4): "no", (4, 5): "unsure"}
    found = group_pairs(mined(pairs, 6, said), load_config().adapt)
    assert found.groups.number.tolist() == [0, 0, 0, -1, -1, -1]
    assert dict(zip(map(tuple, found.groups.pairs.tolist()), found.groups.support.tolist(), strict=True)) == {
        (0, 1): 60,
        (0, 2): 10,
        (1, 2): SURE,
    }
    # A no is pushed apart however near the photos are; what nobody can tell is not.
    assert found.groups.denied.tolist() == [[3, 4]]
    assert [rows.tolist() for rows in found.material.unsure][4:] == [[5], [4]]


def test_pairs_of_another_stop_of_the_matcher_are_others(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set, left open, and left open under another default."""

    def way(*settings: str) -> str:
        config = load_config(overrides=[f"index={index}", *settings])
        with open_gallery(config) as gallery:
            return way_of_matching(gallery, config)

    default = way()
    assert way("rerank.matching.depth_confidence=0.8", "rerank.matching.width_confidence=0.9") == default
    assert way("rerank.matching.depth_confidence=0.95") != default
    monkeypatch.setattr("pipeline.workflow.training.mining.WIDTH_CONFIDENCE", 0.95)
    assert way() != default


def held_out(both: Sequence[float], separation: Sequence[float], groups: Sequence[float] | None = None) -> HeldOut:
    """Values of three groups; those of held-out groups and of held-out photos are equal unless they are given."""
    photos = np.asarray(both if groups is None else 2 * np.asarray(both) - np.asarray(groups))
    return HeldOut(photos, np.asarray(both if groups is None else groups), np.asarray(separation))


@pytest.mark.parametrize(
    ("both", "separation", "groups", "taken"),
    [
        ((0.9, 0.8, 1.0), (3, 3, 3), None, True),  # ranks better than its error
        ((0.7, 0.59, 0.83), (3, 3, 3), None, False),  # by less than its error
        ((0.7, 0.59, 0.83), (4, 4.1, 3.9), None, True),  # and separates better
        ((0.69, 0.62, 0.78), (4, 4.1, 3.9), None, True),  # worse by less than the error
        ((0.69, 0.62, 0.78), (3, 3.1, 2.95), None, False),  # and separates better by less than two
        ((0.6, 0.51, 0.7), (4, 4.1, 3.9), None, False),  # worse by more than the error
        ((0.9, 0.8, 1.0), (4, 4.1, 3.9), (0.6, 0.5, 0.7), False),  # held-out groups are worse
        ((0.7, 0.6, 0.8), (4, 4.1, 3.9), None, False),  # nothing is ranked otherwise: nothing to gain
    ],
)
def test_a_map_is_taken_for_what_it_ranks_or_separates(
    both: Sequence[float], separation: Sequence[float], groups: Sequence[float] | None, taken: bool
) -> None:
    assert is_better(held_out(both, separation, groups), held_out((0.7, 0.6, 0.8), (3, 3, 3))) is taken


def test_separation_is_in_deviations_of_the_others() -> None:
    similarity = np.array([0.9, 0.7, 0.1, 0.3], np.float32)
    positive = np.array([True, True, False, False])
    assert separation_of(similarity, positive) == pytest.approx((0.8 - 0.2) / 0.1, rel=1e-5)
    assert separation_of(similarity, np.zeros(4, np.bool_)) == separation_of(similarity, np.ones(4, np.bool_)) == 0


def test_two_processes_do_not_write_one_checkpoint(index: Path, adapted: dict[str, Any]) -> None:
    from pipeline.workflow.training.training_run import lock_beside

    out = index.parent / "mine.safetensors"
    with lock_beside(out):
        assert relook("adapt", "--index", index, "--out", out, *QUICK).returncode == 75
