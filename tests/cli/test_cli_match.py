"""`relook match`, and the reasons of `search --explain`, as a user runs them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import QUICK, document, refused, relook
from photos import ROOT
from PIL import Image

from pipeline.stages.match import verdict_of
from pipeline.types import VerifiedMatches

SCENES = ROOT / "data" / "samples" / "images"
FIRST, SECOND, OTHER = (
    SCENES / name for name in ("book_a/book_a_00.jpg", "book_a/book_a_01.jpg", "palace_a/palace_a_00.jpg")
)


def test_two_views_of_one_thing_are_the_same(tmp_path: Path) -> None:
    picture = tmp_path / "match.png"
    found = document("match", FIRST, SECOND, "--out", picture)
    assert found["verdict"] == "same"
    assert found["inliers"] == sum(point["inlier"] for point in found["points"]) > 40
    width, height = Image.open(FIRST).size
    assert all(0 <= point["query"][0] < width and 0 <= point["query"][1] < height for point in found["points"])
    with Image.open(picture) as drawn:
        assert drawn.width > 1000


def test_the_stop_is_the_one_that_is_set() -> None:
    earlier = ("--set", "rerank.matching.depth_confidence=0.8", "--set", "rerank.matching.width_confidence=0.9")
    assert document("match", FIRST, SECOND, *earlier)["support"] < document("match", FIRST, SECOND)["support"] - 5
    assert document("match", FIRST, SECOND, "--set", "rerank.matching.matcher=mutual")["verdict"]


def test_one_typeface_on_two_covers_is_not_the_same_thing() -> None:
    found = document("match", FIRST, SCENES / "book_d" / "book_d_02.jpg")
    assert found["support"] > 20  # many letters agree, each of them doubtful
    assert found["verdict"] == "unsure"


@pytest.mark.parametrize(
    ("count", "confidence", "verdict"),
    [(60, 0.46, "same"), (60, 0.44, "unsure"), (40, 0.46, "unsure"), (10, 0.9, "unsure"), (8, 0.9, "different")],
)
def test_the_verdict_follows_from_support_and_confidence(count: int, confidence: float, verdict: str) -> None:
    places, scores = np.zeros((count, 2), np.float32), np.full(count, confidence, np.float32)
    every = np.ones(count, np.bool_)
    found = VerifiedMatches(places, places, scores, every, None, "fundamental", (0, 0, 1, 1))
    assert verdict_of(found) == verdict


def test_two_things_are_different() -> None:
    done = relook("match", FIRST, OTHER)
    assert done.returncode == 0, done.stderr
    assert "no sign of the same thing" in done.stdout


def test_a_photo_matches_itself_and_a_blank_one_nothing(tmp_path: Path) -> None:
    blank = tmp_path / "blank.png"
    Image.new("RGB", (200, 150), (90, 90, 90)).save(blank)
    assert document("match", FIRST, FIRST)["verdict"] == "same"
    found = document("match", blank, FIRST)
    assert (found["verdict"], found["matches"], found["inliers"], found["keypoints"][0]) == ("different", 0, 0, 0)


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (3000, 12)])
def test_pictures_of_any_shape_end_in_a_verdict(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.effect_noise(size, 80).convert("RGB").save(tmp_path / "odd.png")
    assert document("match", tmp_path / "odd.png", FIRST)["verdict"] == "different"


def test_what_is_no_picture_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    assert "text.jpg" in refused(1, "match", tmp_path / "text.jpg", FIRST)
    assert "missing.jpg" in refused(1, "match", FIRST, tmp_path / "missing.jpg")
    assert "match.gif" in refused(2, "match", FIRST, SECOND, "--out", tmp_path / "match.gif")


def test_a_search_says_why(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in (FIRST, SECOND, OTHER):
        shutil.copy(path, photos)
    index, page = tmp_path / "index", tmp_path / "page.html"
    assert relook("extract", photos, "--index", index, *QUICK).returncode == 0
    done = relook(
        "search", FIRST, "--index", index, "--rerank", "superglobal,matching", "--explain", "--html", page, "--json"
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["queries"][0]["results"]
    assert [result["id"] for result in results][:2] == ["book_a_00.jpg", "book_a_01.jpg"]
    why = results[1]["explanation"]["matching"]
    assert why["inliers"] > 40
    text = page.read_text()
    assert text.count('class="reason"') == 3
    assert f"{why['inliers']} of {why['matches']} matches agree" in text
    assert "after refinement by" in text
    assert "--explain needs --json or --html" in refused(2, "search", FIRST, "--index", index, "--explain")


def test_weights_under_another_licence_have_to_be_accepted() -> None:
    words = ("match", FIRST, SECOND, "--set", "rerank.matching.features=superpoint")
    line = refused(1, *words, "--set", "rerank.matching.matcher=mutual")
    assert "accept it with --accept-license superpoint" in line
    line = refused(1, *words, "--set", "rerank.matching.matcher=mutual", "--accept-license", "superpoint")
    assert "set describe.keypoints.checkpoint to the file superpoint_v1.pth" in line
    line = refused(1, *words, "--set", "rerank.matching.matcher=superglue")
    assert "noncommercial" in line
    line = refused(1, *words, "--set", "rerank.matching.matcher=superglue", "--accept-license", "superpoint")
    assert "rerank.matching.checkpoint=FILE" in line
