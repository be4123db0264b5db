"""Published data sets in miniature, read by their adapters: photos, splits, labels, answers; and what is refused."""

from __future__ import annotations

import csv
import logging
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import miniatures
import pytest

from pipeline.catalog import Catalog, load_catalog, load_ground_truth
from pipeline.catalog.registry import DATASETS
from pipeline.errors import RelookError, UsageError
from pipeline.types import GroundTruth


def read(name: str, folder: Path) -> tuple[Catalog, GroundTruth]:
    """Both sides of a data set; every photo that they name is there."""
    catalog, truth = load_catalog(f"{name}:{folder}"), load_ground_truth(f"{name}:{folder}")
    assert all(catalog.file(record).is_file() for record in catalog)
    assert all((truth.root / query.path).is_file() for query in truth.queries)
    gallery = {record.id for record in catalog}
    for group, answers in truth.groups.items():
        assert len(answers) == len(truth.queries)
        assert group == "label" or all(set(answer) <= gallery for answer in answers)
    assert truth.dataset == name
    return catalog, truth


def refusal(name: str, folder: Path, load: Callable[[str], Any] = load_catalog) -> str:
    with pytest.raises(RelookError) as caught:
        load(f"{name}:{folder}")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def replace_line(file: Path, number: int, line: str) -> None:
    lines = file.read_text().splitlines()
    lines[number - 1] = line
    file.write_text("\n".join(lines) + "\n")


# --- Revisited Oxford and Paris ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["roxford5k", "rparis6k"])
@pytest.mark.parametrize(("protocol", "arrays"), [(0, False), (2, True), (4, True)])
def test_revisited(name: str, protocol: int, arrays: bool, tmp_path: Path, shared: Path) -> None:
    made = miniatures.revisited(tmp_path, name, shared, protocol, arrays)
    catalog, truth = read(name, tmp_path)
    assert [record.id for record in catalog] == made.gallery
    assert {record.label for record in catalog} == {""}
    assert [query.id for query in truth.queries] == made.queries
    assert not {query.id for query in truth.queries} & {record.id for record in catalog}
    assert truth.protocol == "revisited"
    for row, answer in enumerate(made.answers):
        assert truth.queries[row].bbox == pytest.approx(tuple(answer["bbx"]))
        for grade in ("easy", "hard", "junk"):
            assert truth.groups[grade][row] == [made.gallery[number] for number in answer[grade]]


@pytest.mark.parametrize(("name", "images"), [("roxford5k", 4993), ("rparis6k", 6322)])
def test_the_real_ground_truth(
    name: str, images: int, tmp_path: Path, shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = miniatures.official_ground_truth(shared, name)
    (tmp_path / f"gnd_{name}.pkl").write_bytes(pickle.dumps(content, protocol=2))
    catalog, truth = load_catalog(f"{name}:{tmp_path}"), load_ground_truth(f"{name}:{tmp_path}")
    assert (len(catalog), len(truth.queries)) == (images, 70)
    assert not caplog.records  # nothing differs from what was published
    for grade in ("easy", "hard", "junk"):
        wanted = [[content["imlist"][row] for row in answer[grade]] for answer in content["gnd"]]
        assert truth.groups[grade] == wanted
    assert [query.bbox for query in truth.queries] == [tuple(answer["bbx"]) for answer in content["gnd"]]


def test_other_counts_than_published_are_said_aloud(
    tmp_path: Path, shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = miniatures.revisited(tmp_path, "roxford5k", shared)
    with caplog.at_level(logging.WARNING, "relook"):
        load_ground_truth(f"roxford5k:{tmp_path}")
        load_catalog(f"roxford5k:{tmp_path}")
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"roxford5k:{tmp_path}: {len(made.queries)} queries, published are 70",
        f"roxford5k:{tmp_path}: {len(made.gallery)} gallery images, published are 4,993",
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda gnd: gnd.pop("imlist"), "no 'imlist'"),
        (lambda gnd: gnd["gnd"].pop(), "queries and"),
        (lambda gnd: gnd["gnd"][0].pop("hard"), "no 'hard'"),
        (lambda gnd: gnd["gnd"][0]["easy"].append(9999), "easy names row 9999"),
        (lambda gnd: gnd["gnd"][0]["easy"].append(-1), "easy names row -1"),
        (lambda gnd: gnd["gnd"][0].update(bbx=[5, 5, 5, 9]), "is empty"),
        (lambda gnd: gnd["gnd"][0].update(bbx=[5, 5, 9]), "not the ground truth"),
        (lambda gnd: gnd["imlist"].append("../../etc/passwd"), "'../../etc/passwd' is not the name of a photo"),
        (lambda gnd: gnd["imlist"].append(5), "5 is not the name of a photo"),
        (lambda gnd: gnd["imlist"].append(gnd["imlist"][0]), "duplicate id"),
    ],
)
def test_a_bad_ground_truth(change: Callable[[Any], Any], says: str, tmp_path: Path, shared: Path) -> None:
    content = miniatures.official_ground_truth(shared, "roxford5k")
    change(content)
    (tmp_path / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(content))
    assert says in refusal("roxford5k", tmp_path)


def test_distractors_join_a_gallery(tmp_path: Path, shared: Path) -> None:
    made = miniatures.revisited(tmp_path / "rparis6k", "rparis6k", shared)
    names = miniatures.distractors(tmp_path / "revisitop1m", shared)
    alone = load_catalog(f"revisitop1m:{tmp_path / 'revisitop1m'}")
    assert [record.id for record in alone] == names
    assert all(alone.file(record).is_file() for record in alone)
    catalog, truth = read("rparis6k+1m", tmp_path)
    assert [record.id for record in catalog] == made.gallery + names
    assert [query.id for query in truth.queries] == made.queries
    assert "has no queries" in refusal("revisitop1m", tmp_path / "revisitop1m", load_ground_truth)
    with (tmp_path / "revisitop1m" / "revisitop1m.txt").open("a") as lines:
        lines.write("../secret.jpg\n")
    assert "'../secret.jpg' leaves" in refusal("rparis6k+1m", tmp_path)


# --- Google Landmarks v2 ----------------------------------------------------------------------------------------------


def test_landmarks_retrieval(tmp_path: Path, shared: Path) -> None:
    made = miniatures.landmarks(tmp_path, shared)
    catalog, truth = read("gldv2", tmp_path)
    assert {record.id: record.label for record in catalog} == dict(made.index)
    assert [record.id for record in catalog] == list(made.index)
    assert {record.split for record in catalog} == {"index"}
    asked = {key: value for key, value in made.retrieval.items() if value[1] != "Ignored"}
    assert truth.protocol == "gldv2"
    assert {query.id: query.split for query in truth.queries} == {key: use.lower() for key, (_, use) in asked.items()}
    assert list(truth.groups["positive"]) == [found for found, _ in asked.values()]
    assert truth.ignored == len(made.retrieval) - len(asked) > 0


@pytest.mark.parametrize("name", ["gldv2-train", "gldv2-train-clean"])
def test_landmarks_recognition(name: str, tmp_path: Path, shared: Path) -> None:
    made = miniatures.landmarks(tmp_path, shared)
    catalog, truth = read(name, tmp_path)
    assert {record.id: record.label for record in catalog} == dict(made.train)
    assert {record.path for record in catalog} == {f"train/{k[0]}/{k[1]}/{k[2]}/{k}.jpg" for k in made.train}
    assert truth.protocol == "gldv2_recognition"
    assert list(truth.groups["label"]) == [labels for labels, _ in made.recognition.values()]
    assert [] in truth.groups["label"]  # a photo of no landmark is a query that counts
    assert truth.ignored == 0


@pytest.mark.parametrize("place", ["metadata", "."])
def test_landmarks_with_tables_in_another_place(place: str, tmp_path: Path, shared: Path) -> None:
    made = miniatures.landmarks(tmp_path, shared)
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / "train" / "train_clean.csv").rename(tmp_path / place / "train_clean.csv")
    assert len(load_catalog(f"gldv2-train-clean:{tmp_path}")) == len(made.train)


def test_landmarks_that_are_no_such_thing(tmp_path: Path, shared: Path) -> None:
    assert "there is no index.csv" in refusal("gldv2", tmp_path)
    miniatures.landmarks(tmp_path, shared)
    index = tmp_path / "index" / "index.csv"
    replace_line(index, 2, "../../../etc/passwd")
    assert "is not the id of a photo" in refusal("gldv2", tmp_path)
    replace_line(index, 2, index.read_text().splitlines()[2])
    assert "duplicate id" in refusal("gldv2", tmp_path)
    replace_line(index, 1, "name")
    assert str(index) in refusal("gldv2", tmp_path)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("abcdef0123456789,None,Public", "a query that is scored has no photo"),
        ("abcdef0123456789,,Private", "a query that is scored has no photo"),
        ("abcdef0123456789,aaaabbbbccccdddd,Secret", "expected an id, its ground truth, and one of Public"),
        ("../../x,aaaabbbbccccdddd,Public", "expected an id"),
    ],
)
def test_a_bad_solution_is_named_by_its_line(line: str, says: str, tmp_path: Path, shared: Path) -> None:
    miniatures.landmarks(tmp_path, shared)
    file = tmp_path / "test" / "retrieval_solution_v2.1.csv"
    replace_line(file, 3, line)
    message = refusal("gldv2", tmp_path, load_ground_truth)
    assert message.startswith(f"{file}, line 3: ")
    assert says in message


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("abcdef0123456789,Public", "row 2 (line 3): 2 cells, the header has 3"),
        ('abcdef0123456789,"aaaabbbbccccdddd,Public', "row 2 (line 3): column 'images': a quote is not closed"),
    ],
)
def test_a_solution_that_is_not_strict_csv(line: str, says: str, tmp_path: Path, shared: Path) -> None:
    miniatures.landmarks(tmp_path, shared)
    file = tmp_path / "test" / "retrieval_solution_v2.1.csv"
    replace_line(file, 3, line)
    assert refusal("gldv2", tmp_path, load_ground_truth).startswith(f"{file}, {says}")


@pytest.mark.parametrize("table", ["train.csv", "train_clean.csv"])
def test_a_quote_of_landmarks_that_is_never_closed(table: str, tmp_path: Path, shared: Path) -> None:
    """Arrow alone would join the rows below it, in a column that is not even read."""
    miniatures.landmarks(tmp_path, shared)
    file = tmp_path / "train" / table
    cells = file.read_text().splitlines()[1].split(",")
    replace_line(file, 2, ",".join([cells[0], '"' + cells[1], *cells[2:]]))
    name = "gldv2-train" if table == "train.csv" else "gldv2-train-clean"
    assert "row 1 (line 2): column " in refusal(name, tmp_path)
    assert "a quote is not closed in its line" in refusal(name, tmp_path)


def test_a_query_stands_once(tmp_path: Path, shared: Path) -> None:
    miniatures.landmarks(tmp_path, shared)
    file = tmp_path / "test" / "recognition_solution_v2.1.csv"
    replace_line(file, 3, file.read_text().splitlines()[1])
    assert "duplicate id" in refusal("gldv2-train", tmp_path, load_ground_truth)


# --- sets with labels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["", "Stanford_Online_Products"])
def test_products(inner: str, tmp_path: Path, shared: Path) -> None:
    made = miniatures.products(tmp_path / inner, shared)
    catalog, truth = read("sop", tmp_path)
    for split in ("train", "test"):
        assert {record.path: record.label for record in catalog.select(split)} == made[split]
    assert (truth.protocol, truth.queries, truth.groups) == ("products", (), {})
    file = tmp_path / inner / "Ebay_test.txt"
    replace_line(file, 3, "7 x 1 a.jpg")
    assert refusal("sop", tmp_path).startswith(f"{file}, line 3: ")
    replace_line(file, 3, "7 4 1 ../../a.jpg")
    assert "leaves the data set's folder" in refusal("sop", tmp_path)
    replace_line(file, 1, "path,label")
    assert "not a list of Stanford Online Products" in refusal("sop", tmp_path)


def test_birds(tmp_path: Path, shared: Path) -> None:
    made = miniatures.birds(tmp_path / "CUB_200_2011", shared)
    catalog, truth = read("cub200", tmp_path)
    assert {record.id: record.label for record in catalog} == made
    classes = sorted(set(made.values()))
    assert {record.label for record in catalog.select("train")} == set(classes[:2])
    assert {record.label for record in catalog.select("test")} == set(classes[2:])
    assert truth.protocol == "classes"
    replace_line(tmp_path / "CUB_200_2011" / "image_class_labels.txt", 2, "")
    assert "has no class of image 2" in refusal("cub200", tmp_path)


def test_cars(tmp_path: Path, shared: Path) -> None:
    made = miniatures.cars(tmp_path, shared)
    catalog, _ = read("cars196", tmp_path)
    assert {record.id: record.label for record in catalog} == made
    names = list(dict.fromkeys(made.values()))
    assert {record.label for record in catalog.select("train")} == set(names[:2])
    (tmp_path / "cars_annos.mat").write_bytes(b"MATLAB 5.0" + b"\0" * 500)
    assert "not the annotations of Cars-196" in refusal("cars196", tmp_path)


def test_folders_of_classes(tmp_path: Path, shared: Path) -> None:
    for name, photos in miniatures.groceries(shared, 4, 1).items():
        photos[0].put(tmp_path / "flat" / f"class {name}" / "1.jpg")
        photos[0].put(tmp_path / "split" / "val" / f"class {name}" / "1.jpg")
    flat = load_catalog(f"classes:{tmp_path / 'flat'}")
    assert Counter(record.split for record in flat) == {"train": 2, "test": 2}
    assert all(record.label == record.path.split("/")[0] for record in flat)
    assert {record.split for record in load_catalog(f"classes:{tmp_path / 'split'}")} == {"val"}
    assert "expected CLASS/photo" in refusal("classes", tmp_path)


def test_ilias(tmp_path: Path, shared: Path) -> None:
    made = miniatures.ilias(tmp_path, shared)
    catalog, truth = read("ilias", tmp_path)
    assert dict(zip([query.id for query in truth.queries], truth.groups["positive"], strict=True)) == made
    assert {query.bbox for query in truth.queries} == {None}
    labels = {record.id: record.label for record in catalog}
    assert all(labels[positive] == positive.split("/")[0] for found in made.values() for positive in found)
    strangers = [name for name, label in labels.items() if not label]
    assert sorted(strangers) == [f"yfcc100m_00000/{number:09d}.jpg" for number in range(4)]
    (tmp_path / "ilias_core" / "odd.jpg").touch()
    assert "not a name of ILIAS" in refusal("ilias", tmp_path)


def test_groceries(shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalog, truth = read("grocery", shared / "data" / "grocery")
    assert len(catalog.select("val")) == 296
    assert truth.protocol == "labels"
    assert not caplog.records


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_an_empty_folder_is_no_data_set(name: str, tmp_path: Path) -> None:
    assert str(tmp_path) in refusal(name, tmp_path)
    assert str(tmp_path) in refusal(name, tmp_path, load_ground_truth)
    assert str(tmp_path / "gone") in refusal(name, tmp_path / "gone")


def test_ground_truth_is_of_published_data_sets(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="NAME:FOLDER"):
        load_ground_truth(str(tmp_path))
    with pytest.raises(UsageError, match="did you mean 'gldv2'"):
        load_ground_truth("gldv3:/data")


def test_columns_are_a_sequence_of_records(tmp_path: Path) -> None:
    rows = [(f"{number:016x}", f"{number % 7}") for number in range(10_000)]
    (tmp_path / "train.csv").write_text("id,url,landmark_id\n" + "".join(f"{k},u,{v}\n" for k, v in rows))
    records = load_catalog(f"gldv2-train:{tmp_path}").records
    assert [(record.id, record.label) for record in records] == rows
    assert len(records) == 10_000
    assert records[-1] == records[9_999] == records[9_998:][1]
    assert records[5_000].path == "train/0/0/0/0000000000001388.jpg"
    with pytest.raises(IndexError):
        records[10_000]
    assert records.nbytes < 1_000_000  # type: ignore[attr-defined]


def test_a_cell_of_many_ids(tmp_path: Path) -> None:
    ids = [f"{number:016x}" for number in range(80_000)]
    with (tmp_path / "train_clean.csv").open("w", newline="") as lines:
        csv.writer(lines).writerows([["landmark_id", "images"], ["5", " ".join(ids[:-1])], ["6", ids[-1]]])
    catalog = load_catalog(f"gldv2-train-clean:{tmp_path}")
    assert [record.id for record in catalog] == ids
    assert Counter(record.label for record in catalog) == {"5": 79_999, "6": 1}
