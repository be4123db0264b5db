"""Keypoints beside the other descriptors: requested, continued, changed alone and removed, without the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photos import make_photo
from stores_helpers import content
from tiny import TinyDescriber, TinyKeypoints, paint, tiny, tiny_config

from pipeline.config import KeypointsConfig, parse_config
from pipeline.describe import load_keypoints
from pipeline.imaging import read_image
from pipeline.stages.extract import extract
from pipeline.stages.info import info
from pipeline.stages.reindex import reindex
from pipeline.stores import Index
from pipeline.stores.index.manifest import KeypointsMade
from pipeline.workflow.indexing.engine import SyncSummary
from pipeline.workflow.indexing.keypoints_choice import requested_keypoints
from pipeline.workflow.progress import Silent
from pipeline.workflow.stop import Stop

__all__ = ["tiny"]
SIFT = {"kind": "sift", "count": 9}


@pytest.fixture
def home(tmp_path: Path, tiny: None) -> Path:
    for number in range(10):
        paint(tmp_path / "photos" / "ab"[number % 2] / f"{number}.png", number)
    return tmp_path


def run(home: Path, keypoints: Mapping[str, Any] | None = None, stop: Stop | None = None) -> SyncSummary:
    config = tiny_config(home, keypoints=keypoints)
    return extract(config, str(config.catalog.images), Silent(), stop)


def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def describe(*arguments: Any) -> Any:
        raise AssertionError("the network of the describer was run")

    monkeypatch.setattr(TinyDescriber, "describe", describe)


def expected(home: Path, count: int = 9) -> dict[str, int]:
    """How many keypoints each photo of the index has."""
    extractor, index = TinyKeypoints("sift", count), Index(home / "index")
    pixels = {name: read_image(index.image_file(record)).pixels for name, record in index.records.items()}
    return {name: len(extractor.extract([extractor.prepare(picture)])[0]) for name, picture in pixels.items()}


def found(home: Path) -> dict[str, int]:
    index = Index(home / "index")
    return {name: len(index.keypoints([name])[0]) for name in index.records}


def test_they_are_extracted_with_the_rest_and_continued(home: Path) -> None:
    assert run(home, SIFT).keypoints == 0
    card = Index(home / "index").keypoints_card
    assert card == TinyKeypoints("sift", 9).card
    assert found(home) == expected(home)
    assert len(set(found(home).values())) > 3
    generation = Index(home / "index").manifest.generation
    assert run(home, SIFT).generation == generation
    assert run(home).generation == generation
    paint(home / "photos" / "a" / "new.png", 50)
    assert (run(home).added, found(home)) == (1, expected(home))
    assert info(tiny_config(home)).keypoints == {**card.to_json(), "stored": "float16", "checkpoint": None}
    assert info(tiny_config(home)).representations["keypoints"]["bytes"] > 0


@pytest.mark.parametrize("change", [{"count": 5}, {"kind": "xfeat"}, {"stored": "uint8"}])
def test_only_keypoints_are_extracted_where_only_they_change(
    home: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    run(home, SIFT)
    before = Index(home / "index")
    no_network(monkeypatch)
    summary = run(home, change)
    after = Index(home / "index")
    assert (summary.keypoints, summary.equal, summary.added, summary.changed) == (10, 10, 0, 0)
    assert after.keypoints_card == TinyKeypoints(change.get("kind", "sift"), change.get("count", 9)).card
    assert after.manifest.complete
    assert after.card == before.card
    for old, new in zip(before.manifest.parts, after.manifest.parts, strict=True):
        assert new.name == old.name
        assert [kind for kind, file in old.files.items() if new.files[kind] != file] == ["keypoints"]
    assert found(home) == expected(home, change.get("count", 9))
    assert run(home, change).generation == summary.generation


def test_they_are_added_to_an_index_without_and_removed_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(home)
    plain, text = content(Index(home / "index")), (home / "index" / "index.json").read_text()
    no_network(monkeypatch)
    assert run(home, SIFT).keypoints == 10
    assert found(home) == expected(home)
    assert run(home, {"kind": None}).keypoints == 0
    assert "keypoints" not in (home / "index" / "index.json").read_text()
    assert "keypoints" not in text
    assert content(Index(home / "index")) == plain


def test_new_photos_and_other_keypoints_in_one_run(home: Path) -> None:
    run(home, SIFT)
    paint(home / "photos" / "a" / "new.png", 50)
    paint(home / "photos" / "a" / "0.png", 51)
    (home / "photos" / "b" / "1.png").unlink()
    (home / "photos" / "b" / "3.png").rename(home / "photos" / "a" / "3.png")
    summary = run(home, {"count": 4})
    assert (summary.added, summary.changed, summary.removed, summary.moved, summary.keypoints) == (1, 1, 1, 1, 8)
    assert found(home) == expected(home, 4)


def test_photos_that_cannot_be_read_or_are_others_have_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(home)
    from pipeline.workflow.indexing import keypoints_refresh

    find = keypoints_refresh.refresh_keypoints

    def later(*arguments: Any) -> Any:
        """After the photos were compared with the index."""
        paint(home / "photos" / "a" / "0.png", 60)
        (home / "photos" / "b" / "1.png").write_bytes(b"no photo")
        (home / "photos" / "b" / "3.png").unlink()
        return find(*arguments)

    monkeypatch.setattr(keypoints_refresh, "refresh_keypoints", later)
    summary = run(home, SIFT)
    assert (summary.keypoints, summary.failed) == (7, 3)
    index = Index(home / "index")
    for name in ("a/0.png", "b/1.png", "b/3.png"):
        assert index.keypoints([name])[0].region == (0, 0, 0, 0)
    monkeypatch.setattr(keypoints_refresh, "refresh_keypoints", find)
    summary = run(home)
    assert (summary.changed, summary.removed, summary.failed) == (1, 1, 1)
    (home / "photos" / "b" / "1.png").unlink()
    assert run(home).removed == 1
    assert found(home) == expected(home)


def test_a_stopped_run_is_continued(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(home)
    stop = Stop()
    extract_keypoints = TinyKeypoints.extract

    def stopping(self: TinyKeypoints, batch: Any) -> Any:
        if len(Index(home / "index").without_keypoints()) < 3:
            stop.request("a signal")
        return extract_keypoints(self, batch)

    monkeypatch.setattr(TinyKeypoints, "extract", stopping)
    summary = run(home, SIFT, stop)
    assert summary.outcome == "stopped"
    assert 0 < summary.keypoints < 10
    assert Index(home / "index").keypoints_card is None
    monkeypatch.setattr(TinyKeypoints, "extract", extract_keypoints)
    assert run(home).keypoints == 10 - summary.keypoints
    assert found(home) == expected(home)


def test_a_large_loss_leaves_the_keypoints(home: Path) -> None:
    run(home, SIFT)
    config = tiny_config(home, keypoints={"kind": None})
    config = config.model_copy(update={"reindex": config.reindex.model_copy(update={"max_removed": 0.1})})
    for number in range(0, 10, 2):
        (home / "photos" / "a" / f"{number}.png").unlink()
    with pytest.raises(Exception, match="images are gone"):
        reindex(config)
    assert Index(home / "index").keypoints_card is not None


def test_another_model_has_them_as_well(home: Path) -> None:
    run(home, SIFT)
    reindex(tiny_config(home, size=200))
    index = Index(home / "index")
    assert index.card.settings["image"]["size"] == 200
    assert index.keypoints_card == TinyKeypoints("sift", 9).card
    assert found(home) == expected(home)


def test_what_is_not_given_is_that_of_the_index() -> None:
    made = KeypointsMade(
        kind="sift", weights="", settings={"size": 500, "count": 7}, dimension=128, stored="uint8", checkpoint="/w.pt"
    )

    def request(**given: Any) -> Any:
        asked = requested_keypoints(KeypointsConfig(**given), made)
        return asked and (asked.kind, asked.checkpoint, asked.stored, dict(asked.options))

    assert request() == request(kind="sift") == ("sift", "/w.pt", "uint8", {"size": 500, "count": 7})
    assert request(count=8) == ("sift", "/w.pt", "uint8", {"size": 500, "count": 8})
    assert request(count=None, checkpoint=None, stored="float16") == ("sift", None, "float16", {"size": 500})
    assert request(kind="xfeat", count=3) == ("xfeat", None, "float16", {"count": 3})
    assert request(kind=None) is None
    assert requested_keypoints(KeypointsConfig(count=3), None) is None


def test_a_real_describer_with_projections(tmp_path: Path) -> None:
    for number in range(6):
        make_photo(tmp_path / "photos" / f"{number}.png", (160, 120), number)
    values = {
        "index": str(tmp_path / "index"),
        "describe": {
            "weights": "random",
            "image": {"size": 64},
            "globals": {"scales": [1.0]},
            "locals": {"count": 4, "dimension": 3, "scales": [1.0]},
            "keypoints": {"kind": "sift", "size": 160, "count": 40, "threshold": 0.01},
        },
    }
    config = parse_config(values, "tests")
    assert extract(config, str(tmp_path / "photos"), Silent()).added == 6
    index = Index(config.index)
    extractor = load_keypoints("sift", size=160, count=40, threshold=0.01)
    for name, record in index.records.items():
        (want,) = extractor.extract([extractor.prepare(read_image(index.image_file(record)).pixels)])
        (have,) = index.keypoints([name])
        assert len(have) == len(want) > 0
        np.testing.assert_allclose(have.xy, want.xy)
        np.testing.assert_allclose(have.descriptors, want.descriptors, atol=1e-3)
        np.testing.assert_array_equal(have.orientation, want.orientation)
        assert len(index.locals([name])[0]) == 4
