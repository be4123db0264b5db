"""Published data sets in miniature: their file names and formats, with a few real photos of the shared data.

Each function builds one layout in an empty folder and returns what the adapter has to find there.
"""

from __future__ import annotations

import csv
import hashlib
import json
import pickle
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 128


@dataclass(frozen=True)
class Photo:
    """A photo of the shared data, its label ("" for a distractor), and a box in it as shares of its sides."""

    file: Path
    label: str
    box: tuple[float, float, float, float] = (0.2, 0.2, 0.8, 0.8)

    def put(self, place: Path) -> Path:
        """A small copy at `place`."""
        place.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(self.file) as image:
            small = image.convert("RGB")
            small.thumbnail((SIDE, SIDE))
            small.save(place, format="JPEG", quality=90)
        return place

    def key(self) -> str:
        """16 hexadecimal digits, as Google Landmarks v2 names photos."""
        return hashlib.sha256(self.file.name.encode() + self.label.encode()).hexdigest()[:16]


def places(shared: Path) -> dict[str, list[Photo]]:
    """The labelled photos of the shared landmarks, by place."""
    found: dict[str, list[Photo]] = defaultdict(list)
    for photo in _landmarks(shared):
        if photo.label:
            found[photo.label].append(photo)
    return dict(found)


def others(shared: Path, count: int) -> list[Photo]:
    """Some of the shared photos that show none of the places."""
    return [photo for photo in _landmarks(shared) if not photo.label][:count]


def groceries(shared: Path, classes: int, each: int) -> dict[str, list[Photo]]:
    """Photos of some fine classes of the Grocery Store data set, far apart in its list."""
    found: dict[str, list[Photo]] = defaultdict(list)
    for line in (shared / "data" / "grocery" / "train.txt").read_text().splitlines():
        path, fine, _ = (part.strip() for part in line.split(","))
        found[fine].append(Photo(shared / "data" / "grocery" / path, fine))
    names = sorted(found, key=int)
    return {name: found[name][:each] for name in names[:: len(names) // classes][:classes]}


@dataclass(frozen=True)
class Revisited:
    """What a miniature of Revisited Oxford or Paris holds."""

    gallery: list[str]
    queries: list[str]
    answers: list[dict[str, Any]]


def revisited(folder: Path, name: str, shared: Path, protocol: int = 4, arrays: bool = False) -> Revisited:
    """The first photo of each place asks; of the rest every third is hard, one is junk."""
    gallery: list[str] = []
    queries: list[str] = []
    of_place: dict[str, list[int]] = {}
    for place, photos in places(shared).items():
        query, *rest = photos
        queries.append(f"{place}_000000")
        query.put(folder / "jpg" / f"{queries[-1]}.jpg")
        of_place[place] = []
        for number, photo in enumerate(rest, start=1):
            of_place[place].append(len(gallery))
            gallery.append(f"{place}_{number:06d}")
            photo.put(folder / "jpg" / f"{gallery[-1]}.jpg")
    for number, photo in enumerate(others(shared, 6)):
        gallery.append(f"oxford_{number:06d}")
        photo.put(folder / "jpg" / f"{gallery[-1]}.jpg")
    answers = []
    for name_of_query, rows in zip(queries, of_place.values(), strict=True):
        with Image.open(folder / "jpg" / f"{name_of_query}.jpg") as image:
            width, height = image.size
        answer: dict[str, Any] = {
            "bbx": [0.1 * width, 0.1 * height, 0.9 * width, 0.9 * height],
            "easy": rows[0::3],
            "hard": rows[1::3],
            "junk": rows[2::3],
        }
        if arrays:
            answer = {key: np.array(value, dtype=float if key == "bbx" else np.int64) for key, value in answer.items()}
        answers.append(answer)
    content = {"imlist": gallery, "qimlist": queries, "gnd": answers}
    (folder / f"gnd_{name}.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    return Revisited(gallery, queries, answers)


def distractors(folder: Path, shared: Path, count: int = 5) -> list[str]:
    """`revisitop1m.txt` and the photos that it lists."""
    names = []
    for number, photo in enumerate(others(shared, 20)[-count:]):
        names.append(f"{number:03d}/{photo.key()}.jpg")
        photo.put(folder / "jpg" / names[-1])
    (folder / "revisitop1m.txt").write_text("".join(f"{name}\n" for name in names))
    return names


def landmark(folder: Path, split: str, photo: Photo) -> str:
    """Put a photo where Google Landmarks v2 has it; returns its id."""
    key = photo.key()
    photo.put(folder / split / key[0] / key[1] / key[2] / f"{key}.jpg")
    return key


@dataclass(frozen=True)
class Landmarks:
    """Ids and landmarks of a miniature of Google Landmarks v2."""

    train: Mapping[str, str]
    index: Mapping[str, str]
    retrieval: Mapping[str, tuple[list[str], str]]
    recognition: Mapping[str, tuple[list[str], str]]


def landmarks(folder: Path, shared: Path) -> Landmarks:
    """Of each place the first photo is in test, the second in train, the rest in index; strangers are everywhere."""
    numbers = {place: str(1000 + 37 * row) for row, place in enumerate(places(shared))}
    train: dict[str, str] = {}
    index: dict[str, str] = {}
    retrieval: dict[str, tuple[list[str], str]] = {}
    recognition: dict[str, tuple[list[str], str]] = {}
    for row, (place, photos) in enumerate(places(shared).items()):
        asked, learnt, *searched = photos
        query = landmark(folder, "test", asked)
        train[landmark(folder, "train", learnt)] = numbers[place]
        found = [landmark(folder, "index", photo) for photo in searched]
        index |= dict.fromkeys(found, numbers[place])
        usage = "Private" if row % 3 else "Public"
        retrieval[query] = (found, usage) if found else (["None"], "Ignored")
        recognition[query] = ([numbers[place]], usage)
    strangers = others(shared, 9)
    for photo in strangers[:3]:
        index[landmark(folder, "index", photo)] = ""
    for photo in strangers[3:6]:
        train[landmark(folder, "train", photo)] = "7"
    for photo in strangers[6:]:
        query = landmark(folder, "test", photo)
        retrieval[query] = (["None"], "Ignored")
        recognition[query] = ([], "Private")
    known = {key: label for key, label in index.items() if label}
    _csv(
        folder / "train" / "train.csv",
        ["id", "url", "landmark_id"],
        [(k, f"http://x/{k}", v) for k, v in train.items()],
    )
    _csv(folder / "train" / "train_clean.csv", ["landmark_id", "images"], _by_landmark(train))
    _csv(folder / "index" / "index.csv", ["id"], [(key,) for key in index])
    _csv(folder / "index" / "index_image_to_landmark.csv", ["id", "landmark_id"], list(known.items()))
    _csv(folder / "test" / "test.csv", ["id"], [(key,) for key in retrieval])
    _solution(folder / "test" / "retrieval_solution_v2.1.csv", "images", retrieval)
    _solution(folder / "test" / "recognition_solution_v2.1.csv", "landmarks", recognition)
    return Landmarks(train, index, retrieval, recognition)


def products(folder: Path, shared: Path) -> dict[str, dict[str, str]]:
    """Stanford Online Products of groceries: three products to learn from, three to test; returns label by path."""
    found: dict[str, dict[str, str]] = {"train": {}, "test": {}}
    for row, (name, photos) in enumerate(groceries(shared, 6, 3).items()):
        split = "train" if row < 3 else "test"
        for view, photo in enumerate(photos):
            path = f"{'fruit' if row % 2 else 'vegetable'}_final/{111000 + int(name)}_{view}.JPG"
            photo.put(folder / path)
            found[split][path] = str(row + 1)
    number = 0
    for split, labels in found.items():
        lines = ["image_id class_id super_class_id path"]
        for path, label in labels.items():
            number += 1
            lines.append(f"{number} {label} 1 {path}")
        (folder / f"Ebay_{split}.txt").write_text("\n".join(lines) + "\n")
    return found


def birds(folder: Path, shared: Path) -> dict[str, str]:
    """CUB-200-2011 of groceries; returns label by path."""
    labels, lines, classes = {}, [], []
    for row, (name, photos) in enumerate(groceries(shared, 4, 3).items(), start=1):
        for view, photo in enumerate(photos, start=1):
            path = f"{row:03d}.Grocery_{name}/Grocery_{name}_{view:04d}.jpg"
            photo.put(folder / "images" / path)
            labels[path] = f"{row:03d}.Grocery_{name}"
            lines.append(f"{len(labels)} {path}")
            classes.append(f"{len(labels)} {row}")
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    (folder / "image_class_labels.txt").write_text("\n".join(classes) + "\n")
    return labels


def cars(folder: Path, shared: Path) -> dict[str, str]:
    """Cars-196 of groceries; returns label by path."""
    from scipy.io import savemat

    names, rows, labels = [], [], {}
    for number, (name, photos) in enumerate(groceries(shared, 4, 3).items(), start=1):
        names.append(f"Grocery {name} 2019")
        for photo in photos:
            path = f"car_ims/{len(labels) + 1:06d}.jpg"
            photo.put(folder / path)
            labels[path] = names[-1]
            rows.append((path, 10, 10, 90, 90, number, len(labels) % 2))
    fields = ["relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test"]
    annotations = np.array([tuple(row) for row in rows], dtype=[(field, object) for field in fields])
    content = {"annotations": annotations[None], "class_names": np.array([names], dtype=object)}
    savemat(folder / "cars_annos.mat", content)
    return labels


def ilias(folder: Path, shared: Path) -> dict[str, list[str]]:
    """ILIAS of places, with one unpacked shard of distractors; returns positives by query."""
    answers = {}
    for number, (place, photos) in enumerate(places(shared).items()):
        home = folder / "ilias_core" / f"{place.replace('_', '-')}_{number:03d}"
        query = photos[0].put(home / "query" / f"Q{number:03d}_00.jpg")
        (home / "query" / f"T{number:03d}.txt").write_text(f"a photo of {place}")
        (home / "query" / f"Q{number:03d}_00_bbox.txt").write_text("10 10 50 60\n")
        found = []
        for view, photo in enumerate(photos[1:]):
            placed = photo.put(home / "pos" / f"P{number:03d}_{view:02d}.jpg")
            placed.with_name(f"{placed.stem}_bbox.txt").write_text("5 5 60 60\n20 20 9 9\n")
            found.append(placed.relative_to(folder / "ilias_core").as_posix())
        answers[query.relative_to(folder / "ilias_core").as_posix()] = found
    for number, photo in enumerate(others(shared, 4)):
        photo.put(folder / "yfcc100m" / "yfcc100m_00000" / f"{number:09d}.jpg")
    return answers


def _landmarks(shared: Path) -> Iterator[Photo]:
    folder = shared / "data" / "landmarks"
    with (folder / "manifest.csv").open(newline="") as lines:
        for row in csv.DictReader(lines):
            yield Photo(folder / row["path"], row["label"])


def _by_landmark(labels: Mapping[str, str]) -> list[tuple[str, str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for key, label in labels.items():
        found[label].append(key)
    return [(label, " ".join(keys)) for label, keys in found.items()]


def _solution(file: Path, column: str, answers: Mapping[str, tuple[list[str], str]]) -> None:
    rows = [(query, " ".join(answer), usage) for query, (answer, usage) in answers.items()]
    _csv(file, ["id", column, "Usage"], rows)


def _csv(file: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def official_ground_truth(shared: Path, name: str) -> dict[str, Any]:
    """The real ground truth of Revisited Oxford or Paris, as the authors' pickle holds it."""
    content: dict[str, Any] = json.loads((shared / "parity" / "revisitop" / f"gnd_{name}.json").read_text())
    return content
