"""A gallery with the reranker `matching`: keypoints of the index, or extracted now and kept; reasons; bad photos."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kornia.feature import LoFTR
from photos import ROOT
from PIL import Image

import relook
from pipeline.config import load_config
from pipeline.rerank import RerankStep
from pipeline.rerank.matching.matchers import DEFAULT_FEATURES
from pipeline.rerank.matching.reranker import MatchingReranker
from pipeline.stages.info import info
from pipeline.stages.sweep import sweep
from pipeline.stores import Index
from pipeline.types import Neighbours, VerifiedMatches
from pipeline.workflow.model_loading import open_chain
from pipeline.workflow.rerank_chain import set_default_chain

DESCRIBE: dict[str, Any] = {
    "image": {"size": 96},
    "globals": {"scales": [1.0]},
    "locals": {"count": 9, "scales": [1.0]},
}
SMALL: dict[str, Any] = {"keypoints": {"size": 96}}
SCENES = ("book_a", "package_b", "palace_a")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three views of three scenes, and a photo in which there is nothing."""
    folder = tmp_path_factory.mktemp("scenes")
    for scene in SCENES:
        for view in range(3):
            name = f"{scene}_{view:02d}.jpg"
            shutil.copy(ROOT / "data" / "samples" / "images" / scene / name, folder / name)
    Image.new("RGB", (320, 240), (120, 130, 140)).save(folder / "blank.png")
    return folder


@pytest.fixture(scope="module")
def plain(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index without keypoints."""
    folder = tmp_path_factory.mktemp("plain") / "index"
    relook.extract(photos, index=folder, describe=DESCRIBE)
    return folder


@pytest.fixture(scope="module")
def stored(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with keypoints."""
    folder = tmp_path_factory.mktemp("stored") / "index"
    relook.extract(photos, index=folder, describe={**DESCRIBE, "keypoints": {"kind": "xfeat", "count": 256}})
    return folder


def test_other_views_of_the_scene_come_first(stored: Path, photos: Path) -> None:
    with relook.open(stored) as gallery:
        for scene in SCENES:
            hits = gallery.search(photos / f"{scene}_00.jpg", rerank="matching", top_k=10, skip_itself=True)
            assert {hit.id.rsplit("_", 1)[0] for hit in hits[:2]} == {scene}
            assert next(hit for hit in hits if hit.id == "blank.png").explanation["matching"] == 0


def test_an_index_of_these_keypoints_is_matched_unless_told_otherwise(
    stored: Path, plain: Path, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    query = photos / "book_a_00.jpg"
    with caplog.at_level(logging.INFO, "relook"), relook.open(stored) as gallery:
        hits = gallery.search(query)
        assert hits.rerank == ("superglobal", "matching")
        named = gallery.search(query, rerank="superglobal,matching")
        assert [hit.score for hit in hits] == [hit.score for hit in named]
        assert gallery.search(query, rerank="superglobal").rerank == ("superglobal",)
    assert f"re-ranking with superglobal,matching, the default of {stored}; choose with --rerank" in caplog.text
    with relook.open(stored, rerank="none") as gallery:
        assert gallery.search(query).rerank == ()
    with relook.open(plain) as gallery:
        assert gallery.search(query).rerank == ("superglobal",)
    assert info(load_config(overrides=[f"index={stored}"])).default_chain == ["superglobal", "matching"]
    assert info(load_config(overrides=[f"index={plain}"])).default_chain is None


def test_what_an_index_names_goes_before_its_keypoints(stored: Path, photos: Path) -> None:
    set_default_chain(stored, ["dba"])
    try:
        with relook.open(stored) as gallery:
            assert gallery.search(photos / "book_a_00.jpg").rerank == ("dba",)
    finally:
        (stored / "rerankers" / "default.json").unlink()


def test_other_keypoints_are_for_who_names_matching(photos: Path, tmp_path: Path) -> None:
    describe = {**DESCRIBE, "keypoints": {"kind": "sift", "count": 64}}
    relook.extract(photos, index=tmp_path / "index", describe=describe)
    with relook.open(tmp_path / "index") as gallery:
        assert gallery.search(photos / "book_a_00.jpg").rerank == ("superglobal",)


def test_a_sweep_matches_the_keypoints_that_are_kept(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"{scene}_{view:02d}.jpg,{scene},val" for scene in SCENES for view in range(3)]
    own = tmp_path / "photos"
    shutil.copytree(photos, own)
    (own / "labels.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    describe = {**DESCRIBE, "keypoints": {"kind": "sift", "count": 64}}
    relook.extract(own / "labels.csv", index=tmp_path / "index", describe=describe)
    opened: list[RerankStep] = []

    def spy(*arguments: Any) -> list[RerankStep]:
        chain = open_chain(*arguments)
        opened.extend(chain)
        return chain

    monkeypatch.setattr("pipeline.stages.sweep.open_chain", spy)
    settings = ["rerank.chain=[matching]", "rerank.matching.matcher=mutual"]
    found = sweep(load_config(overrides=[f"index={tmp_path / 'index'}", *settings]), ["rerank.matching.weight=0,1"])
    assert all(isinstance(step.reranker, MatchingReranker) for step in opened)
    assert [vars(step.reranker)["features"] for step in opened] == ["sift", "sift"]
    assert found.after[1].summary() == found.before.summary() != found.after[0].summary()


def test_keypoints_that_are_not_stored_are_extracted_once(
    plain: Path, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "relook"), relook.open(plain) as gallery:
        first = gallery.search(photos / "book_a_00.jpg", rerank="matching")
    assert "10 photos are read for them now (extract with --set describe.keypoints.kind=xfeat" in caplog.text
    kept = list((plain / "cache").glob("keypoints-*.sqlite"))
    assert len(kept) == 1
    caplog.clear()
    with caplog.at_level(logging.INFO, "relook"), relook.open(plain) as gallery:
        again = gallery.search(photos / "book_a_00.jpg", rerank="matching")
    assert "are read for them now" not in caplog.text
    assert [hit.id for hit in first] == [hit.id for hit in again]
    assert [hit.score for hit in first] == [hit.score for hit in again]
    assert not Index(plain).verify()  # the cache is not part of the index


@pytest.mark.parametrize("damage", [b"", b"no database", None])
def test_a_damaged_cache_is_made_anew(
    plain: Path, photos: Path, tmp_path: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    index = tmp_path / "index"
    shutil.copytree(plain, index)
    with relook.open(index) as gallery:
        expected = gallery.search(photos / "book_a_00.jpg", rerank="matching").ids
    file = next((index / "cache").glob("*.sqlite"))
    if damage is None:
        with sqlite3.connect(file) as base:
            base.execute("UPDATE keypoints SET content = ?", (b"PK\x03\x04 cut off",))
        base.close()
    else:
        file.write_bytes(damage)
    with caplog.at_level(logging.INFO, "relook"), relook.open(index) as gallery:
        assert gallery.search(photos / "book_a_00.jpg", rerank="matching").ids == expected
    assert "are read for them now" in caplog.text


def test_a_photo_that_is_gone_has_no_keypoints_and_is_counted(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = tmp_path / "photos"
    shutil.copytree(photos, own)
    relook.extract(own, index=tmp_path / "index", describe=DESCRIBE)
    (own / "book_a_01.jpg").unlink()
    with caplog.at_level(logging.INFO, "relook"), relook.open(tmp_path / "index") as gallery:
        hits = gallery.search(own / "book_a_00.jpg", rerank="matching")
    assert "1 photos have no keypoints, since they cannot be read" in caplog.text
    assert next(hit for hit in hits if hit.id == "book_a_01.jpg").explanation["matching"] == 0


def test_an_image_of_the_index_and_its_file_give_the_same(stored: Path, photos: Path) -> None:
    with relook.open(stored) as gallery:
        by_id = gallery.search(id="palace_a_01.jpg", rerank="matching")
        by_file = gallery.search(photos / "palace_a_01.jpg", rerank="matching")
    assert by_id.ids[:3] == by_file.ids[:3]
    np.testing.assert_allclose(
        [hit.explanation["matching"] for hit in by_id[:3]],
        [hit.explanation["matching"] for hit in by_file[:3]],
        atol=0.02,
    )


def test_reasons_are_given_on_request(stored: Path, photos: Path) -> None:
    with relook.open(stored) as gallery:
        without = gallery.search(photos / "book_a_00.jpg", rerank="superglobal,matching", top_k=3)
        hits = gallery.search(photos / "book_a_00.jpg", rerank="superglobal,matching", top_k=3, explain=True)
    assert without[0].reasons == {}
    assert hits.ids == without.ids
    for hit in hits:
        found, neighbours = hit.reasons["matching"], hit.reasons["superglobal"]
        assert isinstance(found, VerifiedMatches)
        assert isinstance(neighbours, Neighbours)
        assert hit.id not in neighbours.ids
    itself = hits[0].reasons["matching"]
    assert isinstance(itself, VerifiedMatches)
    assert hits[0].id == "book_a_00.jpg"
    np.testing.assert_allclose(itself.query_xy[itself.inliers], itself.image_xy[itself.inliers], atol=2)
    document = hits.to_json()["results"][0]["explanation"]
    assert document["matching"]["inliers"] == itself.inlier_count
    assert "explanation" not in without.to_json()["results"][0]


def test_a_part_of_a_photo_is_matched_in_pixels_of_the_whole(stored: Path, photos: Path) -> None:
    with relook.open(stored) as gallery:
        hits = gallery.search(photos / "package_b_00.jpg", bbox=(60, 40, 260, 200), rerank="matching", explain=True)
    found = next(hit for hit in hits if hit.id == "package_b_00.jpg").reasons["matching"]
    assert isinstance(found, VerifiedMatches)
    assert found.inlier_count > 20
    assert (found.query_xy.min(axis=0) >= (59, 39)).all()
    assert (found.query_xy.max(axis=0) <= (261, 201)).all()
    apart = np.linalg.norm(found.query_xy - found.image_xy, axis=1)[found.inliers]
    assert np.median(apart) < 3


def test_other_features_than_those_of_the_index_are_extracted(stored: Path, photos: Path) -> None:
    with relook.open(stored, rerank={"matching": {"features": "sift", "matcher": "mutual"}}) as gallery:
        hits = gallery.search(photos / "book_a_00.jpg", rerank="matching")
    assert hits[0].id == "book_a_00.jpg"
    assert list((stored / "cache").glob("keypoints-*.sqlite"))


def test_a_dense_matcher_reads_the_photos(stored: Path, photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Stored keypoints do not matter to it; random weights: no matches, and the order stays."""
    file, cached = stored.parent / "loftr_outdoor.ckpt", set((stored / "cache").glob("*.sqlite"))
    torch.manual_seed(0)
    torch.save({"state_dict": LoFTR(None).state_dict()}, file)
    dense = {"matching": {"matcher": "loftr", "checkpoint": str(file)}}
    with caplog.at_level(logging.INFO, "relook"), relook.open(stored, rerank=dense, describe=SMALL) as gallery:
        hits = gallery.search(photos / "book_a_00.jpg", rerank="matching", top_k=3, explain=True)
        expected = gallery.search(photos / "book_a_00.jpg", rerank="none", top_k=3)
    assert "10 photos are read now, and again in each search: the matcher loftr compares pictures" in caplog.text
    assert hits.ids == expected.ids
    assert isinstance(hits[0].reasons["matching"], VerifiedMatches)
    assert set((stored / "cache").glob("*.sqlite")) == cached


def test_the_default_features_are_named_once() -> None:
    assert DEFAULT_FEATURES == "xfeat"
