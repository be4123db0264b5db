"""`evaluate` on published data sets in miniature, from nothing to figures; reports, sweeps and comparisons.

The miniatures have the real layouts and real photos (miniatures.py). Figures are checked against rankings that are made
here from the descriptors of the index.
"""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cli_helpers
import miniatures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from photos import ROOT

import pipeline.cli  # noqa: F401  # the verbs register themselves
from pipeline.catalog import load_ground_truth
from pipeline.cli.run import app
from pipeline.config import Config, load_config
from pipeline.errors import RelookError, UsageError
from pipeline.evaluate import PROTOCOLS, RevisitedTruth, by_revisited, cvnet_order, rrt_order
from pipeline.rerank import RerankStep
from pipeline.stages.compare import compare
from pipeline.stages.evaluate import evaluate
from pipeline.stages.sweep import sweep
from pipeline.types import Candidates, Description, ImageRecord, Reranker
from pipeline.workflow.evaluation.measurement import measure
from pipeline.workflow.evaluation.query_sets import EvaluationQueries
from pipeline.workflow.evaluation.result import EvaluateResult
from pipeline.workflow.gallery import open_gallery
from pipeline.workflow.model_loading import open_describer
from pipeline.workflow.progress import Silent
from pipeline.workflow.queries import Queries, describe_records

QUICK = [word for word in cli_helpers.QUICK if word != "--set"]


def configured(folder: Path, name: str, *more: str) -> Config:
    settings = [*QUICK, f"index={folder / 'index'}", f"evaluate.dataset={name}:{folder / name}", "device=cpu", *more]
    return load_config(None, settings)


@pytest.fixture(scope="module")
def oxford(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    """A miniature of Revisited Oxford, evaluated by the command line with nothing done before."""
    folder = tmp_path_factory.mktemp("oxford")
    miniatures.revisited(folder / "roxford5k", "roxford5k", shared)
    dataset = f"evaluate.dataset=roxford5k:{folder / 'roxford5k'}"
    report = ["--report", folder / "report", "--set", dataset, "--set", "evaluate.timed=4"]
    document = cli_helpers.document("evaluate", "--index", folder / "index", *report, *cli_helpers.QUICK)
    (folder / "document.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module")
def groceries(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    """A miniature of Stanford Online Products with an index; its splits are train and test."""
    folder = tmp_path_factory.mktemp("sop")
    miniatures.products(folder / "sop", shared)
    evaluate(configured(folder, "sop", "evaluate.split=test"))
    return folder


# --- Revisited Oxford, from nothing to figures ------------------------------------------------------------------------


def test_the_document(oxford: Path) -> None:
    document = json.loads((oxford / "document.json").read_text())
    truth = load_ground_truth(f"roxford5k:{oxford / 'roxford5k'}")
    assert document["protocol"] == "revisited"
    assert document["queries"] == len(truth.queries)
    assert document["gallery"] == len(open_gallery(configured(oxford, "roxford5k")).index.records)
    assert document["rerank"] == ["superglobal"]
    metrics = [f"{name}_{setup}" for setup in "EMH" for name in ("mAP", "mP@1", "mP@5", "mP@10")]
    for row in ("global", "reranked", "intervals"):
        assert list(document[row]) == metrics
    for name in metrics:
        low, high = document["intervals"][name]
        assert low <= document["reranked"][name] <= high
        change = document["reranked"][name] - document["global"][name]
        assert document["difference"][name] == pytest.approx(change, abs=0.02)
    assert document["latency"].keys() == {"describe", "search", "rerank", "rerank superglobal"}
    assert {row["queries"] for row in document["latency"].values()} == {3}
    assert all(0 < row["median_ms"] <= row["p95_ms"] for row in document["latency"].values())
    assert document["bytes_per_image"].keys() == {"catalog", "globals", "locals"}
    assert all(size > 100 for size in document["bytes_per_image"].values())
    assert document["extraction"]["images"] == document["gallery"]
    assert document["extraction"]["images_per_second"] > 0


def test_figures_are_those_of_the_official_function(oxford: Path) -> None:
    """Queries cut to their box, cosines, and the ground truth's rows, all put together here once more."""
    config = configured(oxford, "roxford5k")
    gallery, truth = open_gallery(config), load_ground_truth(f"roxford5k:{oxford / 'roxford5k'}")
    records = [ImageRecord(query.id, str(truth.root / query.path), bbox=query.bbox) for query in truth.queries]
    found = describe_records(records, open_describer(config, gallery.index), config, Silent())
    ids = sorted(gallery.index.records)
    vectors = gallery.globals(ids)
    rankings = [np.argsort(-(vectors @ description.vector), kind="stable") for description in found.descriptions]
    rows = {name: row for row, name in enumerate(ids)}
    truths = [
        RevisitedTruth(*(np.array([rows[name] for name in truth.groups[grade][number]]) for grade in truth.groups))
        for number in range(len(records))
    ]
    assert list(truth.groups) == ["easy", "hard", "junk"]
    document = json.loads((oxford / "document.json").read_text())
    for setup in "EMH":
        for name, value in by_revisited(rankings, truths, setup).summary().items():
            assert document["global"][f"{name}_{setup}"] == pytest.approx(value, abs=0.01)


def test_the_files_of_a_report(oxford: Path) -> None:
    report = json.loads((oxford / "report" / "evaluation.json").read_text())
    document = json.loads((oxford / "document.json").read_text())
    assert {key: report[key] for key in document} == document
    assert report["provenance"]["index"]["fingerprint"]
    assert report["provenance"]["libraries"]["torch"]
    with (oxford / "report" / "evaluation.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for ranking in ("global", "reranked"):
        values = [float(row["mAP_M"]) for row in rows if row["ranking"] == ranking and row["mAP_M"]]
        assert 100 * np.mean(values) == pytest.approx(document[ranking]["mAP_M"], abs=0.006)
    page = (oxford / "report" / "evaluation.md").read_text()
    assert f"| mAP_H | {document['global']['mAP_H']:.2f} | {document['reranked']['mAP_H']:.2f} |" in page
    assert "| globals |" in page
    for row in report["per_query"]:
        assert Path(row["path"]).is_file()
        assert row["bbox"] is not None
        answers = row["answers"]["global"]
        assert {answer["relevance"] for answer in answers} <= {"easy", "hard", "junk", ""}
        assert all(Path(answer["path"]).is_file() for answer in answers)


def test_the_configuration_of_a_report_gives_the_same_figures(oxford: Path) -> None:
    again = evaluate(load_config(oxford / "report" / "evaluation.yaml", ["evaluate.timed=0"]))
    document = json.loads((oxford / "document.json").read_text())
    assert again.before.summary() == document["global"]
    assert again.after is not None
    assert again.after.summary() == pytest.approx(document["reranked"], abs=0.02)
    assert again.to_json()["latency"] == {}


@given(st.integers(0, 2**32 - 1), st.integers(1, 25))
def test_lists_as_the_papers_make_them(seed: int, top: int) -> None:
    """What a setup ignores is taken out before re-ranking: CVNet's and RRT's published orders by other means."""
    rng = np.random.default_rng(seed)
    ranking, similarity, scores = rng.permutation(30), -np.sort(-rng.random(30)), rng.random(30)
    truth = RevisitedTruth(*np.split(rng.permutation(30)[:12], [4, 8]))
    known = {grade: [str(row) for row in getattr(truth, grade)] for grade in ("easy", "hard", "junk")}
    records = {str(row): ImageRecord(str(row), "") for row in range(30)}
    store = SimpleNamespace(
        query=lambda vectors, top_k: [([str(row) for row in ranking], similarity)], max_results=None
    )
    gallery: Any = SimpleNamespace(index=SimpleNamespace(records=records), store=store)
    asked = Queries([ImageRecord("q", "")], [Description(np.ones(2, np.float32))], [], [0])

    class OneQuery(EvaluationQueries):
        protocol, records, size, failed, stored = PROTOCOLS["revisited_published"], asked.records, 30, 0, True

        def __init__(self) -> None:
            pass

        def file(self, number: int) -> str:
            return ""

        def describe(self, rows: slice) -> Queries:
            return asked

        def groups(self, number: int) -> dict[str, list[str]]:
            return known

        def labels(self, number: int) -> tuple[str, ...]:
            return ()

    by_id = {str(row): score for row, score in zip(ranking, scores, strict=True)}
    chains = [[RerankStep("it", cast("Reranker", Known(by_id)), top, weight)] for weight in (2 / 3, 0)]
    measured = measure(gallery, chains, OneQuery(), Silent())
    for setup in "EMH":
        orders = [
            cvnet_order(ranking, similarity, scores, truth, setup, top),
            rrt_order(ranking, scores, truth, setup, min(top, 30 - len(truth.ignored(setup)))),
        ]
        for order, found in zip(orders, measured.after, strict=True):
            for name, value in by_revisited([order], [truth], setup).means().items():
                assert found.means()[f"{name}_{setup}"] == pytest.approx(value, abs=1e-12)


class Known:
    """A reranker whose scores were given."""

    needs: frozenset[str] = frozenset()

    def __init__(self, scores: dict[str, float]) -> None:
        self._scores = scores

    def score(self, queries: Any, candidates: Candidates, gallery: Any) -> list[np.ndarray]:
        return [np.array([self._scores[name] for name in ids]) for ids in candidates.ids]


# --- the other data sets ----------------------------------------------------------------------------------------------


def test_landmarks_by_both_tasks(tmp_path: Path, shared: Path) -> None:
    made = miniatures.landmarks(tmp_path / "gldv2", shared)
    found = evaluate(configured(tmp_path, "gldv2", "evaluate.split=private"))
    assert found.protocol == "gldv2"
    assert found.ignored > 0
    assert list(found.before.per_query) == ["mAP@100", "P@1", "P@10", "P@100"]
    truth = load_ground_truth(f"gldv2:{tmp_path / 'gldv2'}")
    private = [query.id for query in truth.queries if query.split == "private"]
    assert [row["query"] for row in found.to_report()["per_query"]] == private
    config = configured(tmp_path, "gldv2", f"evaluate.dataset=gldv2-train:{tmp_path / 'gldv2'}")
    recognised = evaluate(
        load_config(
            None,
            [*QUICK, f"index={tmp_path / 'train'}", "rerank.chain=[]", f"evaluate.dataset={config.evaluate.dataset}"],
        )
    )
    assert recognised.protocol == "gldv2_recognition"
    assert recognised.unscored > 0
    assert set(recognised.before.summary()) == {"uAP", "top1"}
    assert recognised.after is None
    assert made


def test_a_store_that_has_to_be_filled_is(tmp_path: Path, shared: Path) -> None:
    miniatures.products(tmp_path / "sop", shared)
    table = evaluate(configured(tmp_path, "sop", "evaluate.split=test"))
    settings = ("evaluate.split=test", "store.kind=ann", "store.ann.flat_below=8")
    filled = evaluate(configured(tmp_path, "sop", *settings))  # the index is there, the store is not
    assert filled.before.summary() == table.before.summary()
    shutil.rmtree(tmp_path / "index")
    assert evaluate(configured(tmp_path, "sop", *settings)).before.summary() == table.before.summary()


def test_products_ask_within_their_split(groceries: Path) -> None:
    found = evaluate(configured(groceries, "sop", "evaluate.split=test"))
    assert found.protocol == "products"
    assert list(found.before.per_query) == ["R@1", "R@10", "R@100", "R@1000"]
    both = len(open_gallery(configured(groceries, "sop")).index.records)
    assert found.queries == found.gallery < both
    answers = [row["answers"]["global"] for row in found.to_report()["per_query"]]
    assert all(
        open_gallery(configured(groceries, "sop")).index.records[hit["id"]].split == "test"
        for hits in answers[:3]
        for hit in hits
    )


def test_instances(tmp_path: Path, shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    positives = miniatures.ilias(tmp_path / "ilias", shared)
    with caplog.at_level("INFO", logger="relook"):
        found = evaluate(configured(tmp_path, "ilias"))
    assert any("they are extracted first" in message for message in caplog.messages)
    assert (found.protocol, found.queries) == ("ilias", len(positives))
    assert list(found.before.per_query) == ["mAP@1k"]


def test_a_protocol_needs_its_answers(oxford: Path) -> None:
    with pytest.raises(UsageError, match=r"protocol gldv2 needs relevant images by positive; roxford5k:.* has none"):
        evaluate(configured(oxford, "roxford5k", "evaluate.protocol=gldv2"))
    with pytest.raises(RelookError, match="no query has split 'val'; there are: no splits at all"):
        evaluate(configured(oxford, "roxford5k", "evaluate.split=val"))


def test_an_index_that_holds_more_is_left_alone(oxford: Path, groceries: Path) -> None:
    config = load_config(None, [*QUICK, f"index={oxford / 'index'}", f"evaluate.dataset=sop:{groceries / 'sop'}"])
    before = open_gallery(config).index.manifest.generation
    with pytest.raises(RelookError, match="images of the ground truth are not in"):
        evaluate(config)
    assert open_gallery(config).index.manifest.generation == before


# --- what the pages promise -------------------------------------------------------------------------------------------

BASES = {
    "roxford_cvnet_r50": "cvnet_r50_cvpr2022",
    "roxford_cvnet_r101": "cvnet_r101_cvpr2022",
    "roxford_superglobal_r50": "superglobal_r50_iccv2023",
    "roxford_superglobal_r101": "superglobal_r101_iccv2023",
    "rparis_cvnet_r50": "cvnet_r50_cvpr2022",
    "rparis_cvnet_r101": "cvnet_r101_cvpr2022",
    "rparis_superglobal_r50": "superglobal_r50_iccv2023",
    "rparis_superglobal_r101": "superglobal_r101_iccv2023",
    "sop_rrt_r50": "rrt_sop_r50_iccv2021",
}
# A small describer and a reranker without a checkpoint in place of the papers': which files of weights would be read
# is not what these tests are about.
SMALL = [
    "describe={image: {size: 96}, globals: {scales: [1.0]}, locals: {scales: [1.0], count: 9}}",
    "rerank={chain: [superglobal], matching: {top: 4, keypoints: 200}}",
    "evaluate.timed=0",
    "device=cpu",
]


def promised() -> list[str]:
    """Every evaluation by a configuration that README or docs show."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    lines = [line.strip() for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    return list(dict.fromkeys(line for line in lines if line.startswith("relook evaluate --config configs/")))


@pytest.mark.parametrize("name", sorted(BASES))
def test_a_benchmark_has_the_settings_of_its_paper(name: str) -> None:
    found, base = (load_config(ROOT / "configs" / f"{file}.yaml") for file in (name, BASES[name]))
    assert (found.describe, found.rerank) == (base.describe, base.rerank)
    assert found.describe.model_fields_set == base.describe.model_fields_set
    assert found.index != base.index
    assert found.evaluate.report is not None


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    """Where a user is: `configs/`, and the data sets in miniature in `datasets/`."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "configs").symlink_to(ROOT / "configs")
    datasets = folder / "datasets"
    miniatures.revisited(datasets / "roxford5k", "roxford5k", shared)
    miniatures.revisited(datasets / "rparis6k", "rparis6k", shared)
    miniatures.landmarks(datasets / "gldv2", shared)
    miniatures.products(datasets / "sop", shared)
    miniatures.ilias(datasets / "ilias", shared)
    (datasets / "landmarks").symlink_to(shared / "data" / "landmarks")
    (datasets / "grocery").mkdir()
    for name in ("train", "val", "iconic-images-and-descriptions"):
        (datasets / "grocery" / name).symlink_to(shared / "data" / "grocery" / name)
    for name in ("train.txt", "val.txt"):  # photos of one class stand beside each other
        lines = (shared / "data" / "grocery" / name).read_text().splitlines()[:20]
        (datasets / "grocery" / name).write_text("\n".join(lines) + "\n")
    lines = (shared / "data" / "grocery" / "classes.csv").read_text(encoding="utf-8-sig").splitlines()[:8]
    (datasets / "grocery" / "classes.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("line", promised())
def test_promised_evaluations_run(line: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    words = shlex.split(line)[1:]
    # Weights that are not here, and settings of the papers' rerankers.
    words = [word for word in words if not word.endswith("checkpoint=FILE")]
    words = [word for word, after in zip(words, [*words[1:], ""], strict=True) if word != "--set" or "=" in after]
    settings = [part for value in SMALL for part in ("--set", value)]
    app([*words, "--quiet", *settings], standalone_mode=False)
    config = load_config(Path(words[2]))
    if config.evaluate.report is not None and "--sweep" not in words:
        assert (home / config.evaluate.report / "evaluation.md").is_file()


# --- sweeps -----------------------------------------------------------------------------------------------------------


def test_a_sweep_looks_at_validation_alone(groceries: Path) -> None:
    config = configured(groceries, "sop", "evaluate.validation=train")
    found = sweep(config, ["rerank.superglobal.weight=0.2, 1", "rerank.superglobal.top=2,5"])
    document = found.to_json()
    assert document["split"] == "train"
    assert [tuple(row["settings"].values()) for row in document["rows"]] == [(0.2, 2), (0.2, 5), (1, 2), (1, 5)]
    values = [row["reranked"]["R@1"] for row in document["rows"]]
    assert document["best"]["reranked"]["R@1"] == max(values)
    assert document["rows"][2]["reranked"] == document["global"]  # weight 1 leaves the order as it was
    alone = evaluate(
        configured(
            groceries, "sop", "evaluate.split=train", "rerank.superglobal.weight=0.2", "rerank.superglobal.top=5"
        )
    )
    assert alone.after is not None
    assert alone.after.summary() == document["rows"][1]["reranked"]
    assert document["queries"] == alone.queries


@pytest.mark.parametrize(
    ("settings", "axes", "wanted"),
    [
        (
            ["evaluate.split=test"],
            ["rerank.rrt.weight=0,1"],
            "looks at the validation split 'val' alone, not at 'test'",
        ),
        ([], ["describe.globals.p=1,3"], "expected KEY=v1,v2 with a key of rerank"),
        ([], ["rerank.rrt.weight"], "expected KEY=v1,v2 with a key of rerank"),
        ([], ["rerank.rrt.weight=[0,"], "the values are not a list"),
        ([], ["rerank.rrt.weight="], "there is no value"),
        ([], ["rerank.rrt.wait=1"], "unknown key rerank.rrt.wait; did you mean rerank.rrt.weight"),
    ],
)
def test_sweeps_that_are_refused(settings: list[str], axes: list[str], wanted: str) -> None:
    with pytest.raises(UsageError) as caught:
        sweep(load_config(None, settings), axes)
    assert wanted in str(caught.value)


def test_validation_is_never_a_test_split() -> None:
    with pytest.raises(UsageError, match="validation = test: figures are reported on that split"):
        load_config(None, ["evaluate.validation=test"])


def test_a_data_set_without_a_validation_split_cannot_be_swept(oxford: Path) -> None:
    with pytest.raises(RelookError, match="no query has split 'val'"):
        sweep(configured(oxford, "roxford5k"), ["rerank.superglobal.weight=0,1"])


# --- comparisons ------------------------------------------------------------------------------------------------------


def written(result: EvaluateResult, folder: Path) -> Path:
    folder.mkdir()
    (folder / "evaluation.json").write_text(json.dumps(result.to_report()))
    return folder


def test_compare_before_and_after(oxford: Path) -> None:
    found = compare(oxford / "report").to_json()
    document = json.loads((oxford / "document.json").read_text())
    row = found["metrics"]["mAP_M"]
    assert (row["before"], row["after"]) == (document["global"]["mAP_M"], document["reranked"]["mAP_M"])
    assert row["difference"] == document["difference"]["mAP_M"]
    assert row["wins"] + row["losses"] + row["ties"] == document["queries"]
    assert 0 < row["p_value"] <= 1
    differences = [query["difference"] for query in found["queries"]]
    assert differences == sorted(differences, reverse=True)
    assert sum(value > 0 for value in differences) == row["wins"]


def test_compare_two_runs_with_a_page(groceries: Path, tmp_path: Path) -> None:
    config = configured(groceries, "sop", "evaluate.split=test", "rerank.chain=[]", f"evaluate.report={tmp_path / 'a'}")
    evaluate(config)
    second = evaluate(configured(groceries, "sop", "evaluate.split=test", "rerank.superglobal.weight=0"))
    done = cli_helpers.relook(
        "compare", tmp_path / "a", written(second, tmp_path / "b"), "--metric", "R@1", "--html", tmp_path / "page.html"
    )
    assert done.returncode == 0, done.stderr
    found = compare(tmp_path / "a", tmp_path / "b", "R@1")
    assert f"{found.tests['R@1'].wins}" in done.stdout
    assert "…" not in done.stdout  # at 80 columns no number is cut
    page = (tmp_path / "page.html").read_text()
    changed = [row for row in found.queries if row["difference"]]
    assert len(changed) <= 15, "each is on the page"
    assert page.count('<section class="query">') == len(changed)
    assert page.count("data:image/jpeg;base64,") >= len(changed[:15])
    assert "R@10" in page
    assert "Precision over recall" in page
    first, other = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in "ab")
    assert found.curves["before"]["precision"] == first["curves"]["global"]["precision"]
    assert found.curves["after"]["precision"] == other["curves"]["reranked"]["precision"]


def test_curves_of_other_queries_are_not_compared(groceries: Path, tmp_path: Path) -> None:
    report = f"evaluate.report={tmp_path / 'a'}"
    evaluate(configured(groceries, "sop", "evaluate.split=test", "rerank.chain=[]", report))
    document = json.loads((tmp_path / "a" / "evaluation.json").read_text())
    (tmp_path / "less").mkdir()
    fewer = {**document, "per_query": document["per_query"][1:]}
    (tmp_path / "less" / "evaluation.json").write_text(json.dumps(fewer))
    found = compare(tmp_path / "a", tmp_path / "less", "R@1")
    assert (found.left_out, found.curves) == (1, {})


def test_comparisons_that_are_refused(oxford: Path, groceries: Path, tmp_path: Path) -> None:
    alone = evaluate(configured(groceries, "sop", "evaluate.split=test", "rerank.chain=[]"))
    folder = written(alone, tmp_path / "alone")
    with pytest.raises(UsageError, match="has no re-ranked results"):
        compare(folder)
    with pytest.raises(RelookError, match=r"is of protocol 'products', .* of 'revisited': nothing to compare"):
        compare(folder, oxford / "report")
    with pytest.raises(UsageError, match=r"no metric 'mAP' in .*; there are: mAP_E"):
        compare(oxford / "report", metric="mAP")
    with pytest.raises(RelookError, match=r"not an evaluation.json"):
        compare(tmp_path / "gone.json")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(RelookError, match=r"not an evaluation.json"):
        compare(tmp_path / "list.json")
