"""Keypoints in the index: what is stored comes back, they change alone, and an index without them is as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from stores_helpers import ROOT, content, make_card, make_index, make_items, plain_keypoints, unit_vectors

from pipeline.errors import RelookError
from pipeline.stores import Index, IndexWriter
from pipeline.stores.index.compaction import fold_parts
from pipeline.stores.index.keypoint_store import KeypointStore, encode, write_keypoints
from pipeline.stores.index.manifest import KeypointsMade, StoredType, as_bytes, read_manifest
from pipeline.types import Description, ImageRecord, Keypoints

STORED: tuple[StoredType, ...] = ("float16", "uint8")


def made(kind: str = "xfeat", stored: StoredType = "float16", **changes: Any) -> KeypointsMade:
    return KeypointsMade(kind=kind, weights="sha256:ab", settings={"count": 9}, dimension=64, stored=stored, **changes)


def some(count: int, seed: int = 0, *, oriented: bool = False) -> Keypoints:
    rng = np.random.default_rng(seed)
    scale, orientation = (rng.uniform(1, 9, count).astype(np.float32) * oriented for _ in range(2))
    xy, score = rng.uniform(0, 500, (count, 2)).astype(np.float32), rng.uniform(0, 1, count).astype(np.float32)
    return Keypoints(xy, unit_vectors(count, 64, seed), score, scale, orientation, (0.0, 1.0, 640.0, 481.0))


def items(ids: list[str], seed: int = 0) -> tuple[list[ImageRecord], list[Description]]:
    records, descriptions = make_items(ids, seed, [1] * len(ids))
    return records, [replace(one, keypoints=some(3 * n, seed + n)) for n, one in enumerate(descriptions)]


def begun(writer: IndexWriter, keypoints: KeypointsMade | None) -> None:
    writer.begin(make_card(), {}, ROOT, "parquet")
    writer.use_keypoints(keypoints)


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("oriented", [True, False])
def test_what_is_stored_comes_back(tmp_path: Path, stored: StoredType, oriented: bool) -> None:
    all_of = [some(5, 1, oriented=oriented), some(0), some(700, 2, oriented=oriented)]
    path = tmp_path / "part.h5"
    write_keypoints(path, ["a", "b", "c"], [encode(one, stored) for one in all_of])
    with KeypointStore(lambda ids: [(path, "abc".index(name)) for name in ids]) as store:
        for before, after in zip(all_of, store.read(["a", "b", "c"]), strict=True):
            assert plain_keypoints(replace(after, descriptors=before.descriptors)) == plain_keypoints(before)
            assert after.descriptors.shape == before.descriptors.shape
            assert after.descriptors.dtype == np.float32
            cosines = (after.descriptors * before.descriptors).sum(axis=1)
            assert cosines.min(initial=1) > 0.9998
            # What was rounded once is not rounded again.
            assert np.array_equal(encode(after, stored).descriptors, encode(before, stored).descriptors)
    with h5py.File(path) as file:
        assert ("scale" in file) == oriented
        assert file["descriptors"].dtype == stored


def test_an_index_without_keypoints_is_written_as_before_there_were_any(tmp_path: Path) -> None:
    index = make_index(tmp_path / "index")
    values = json.loads((tmp_path / "index" / "index.json").read_text())
    assert "keypoints" not in values
    assert list(values)[-1] == "earlier"
    assert as_bytes(index.manifest) == (tmp_path / "index" / "index.json").read_bytes()
    assert index.keypoints_card is None
    assert not (tmp_path / "index" / "keypoints").exists()
    with pytest.raises(RelookError, match=r"no keypoints of 'a'; extract with describe.keypoints.kind=xfeat"):
        index.keypoints(["a"])


def test_keypoints_are_no_part_of_the_model(tmp_path: Path) -> None:
    with IndexWriter(tmp_path) as writer:
        begun(writer, made())
        writer.add(*items(["a", "b"]))
    index = Index(tmp_path)
    assert index.manifest.fingerprint == make_card().fingerprint
    assert index.keypoints_card == made().card
    assert [len(one) for one in index.keypoints(["b", "a"])] == [3, 0]
    assert index.verify() == []


def test_keypoints_change_alone(tmp_path: Path) -> None:
    with IndexWriter(tmp_path) as writer:
        begun(writer, None)
        for seed, ids in enumerate((["a", "b"], ["c", "d"])):
            writer.add(*make_items(ids, seed, [1, 2]))
        writer.delete(["c"])
        writer.complete(3)
        before = Index(tmp_path)
        writer.use_keypoints(made())
        writer.use_keypoints(made())
        assert writer.index is not None
        parts = writer.index.without_keypoints()
        assert len(parts) == 2
        writer.add_keypoints(parts[0], {"a": encode(some(2), "float16"), "b": encode(some(4), "float16")})
        with pytest.raises(RelookError, match="no keypoints of 'd'"):
            writer.add_keypoints(parts[1], {})
        # Until every image has them, nobody takes them for those of the index.
        assert Index(tmp_path).keypoints_card is None
        writer.add_keypoints(parts[1], {"d": encode(some(6), "float16")})
        writer.complete(3)
    index = Index(tmp_path)
    assert [len(one) for one in index.keypoints(["a", "b", "d"])] == [2, 4, 6]
    assert index.keypoints_card == made().card
    for old, new in zip(before.manifest.parts, index.manifest.parts, strict=True):
        assert new == old.model_copy(update={"files": new.files})
        assert {kind: new.files[kind] for kind in old.files} == dict(old.files)
    with IndexWriter(tmp_path) as writer:
        writer.rollback()
        assert read_manifest(tmp_path).keypoints is None
        writer.collect(1)
    assert list((tmp_path / "keypoints").glob("*")) == []
    assert content(Index(tmp_path)) == content(before)


def test_keypoints_that_something_else_made_leave_the_parts(tmp_path: Path) -> None:
    with IndexWriter(tmp_path) as writer:
        begun(writer, made())
        writer.add(*items(["a", "b"]))
        writer.complete(1)
        writer.use_keypoints(made(checkpoint="/elsewhere/xfeat.pt"))
        assert Index(tmp_path).keypoints_card == made().card
        assert Index(tmp_path).manifest.complete
        for other in (made("sift"), made(stored="uint8"), None):
            writer.use_keypoints(other)
            index = Index(tmp_path)
            assert index.keypoints_card is None
            assert len(index.without_keypoints()) == 1
    assert "keypoints" not in json.loads((tmp_path / "index.json").read_text())


@pytest.mark.parametrize("stored", STORED)
def test_parts_are_folded_bit_for_bit(tmp_path: Path, stored: StoredType) -> None:
    with IndexWriter(tmp_path) as writer:
        begun(writer, made(stored=stored))
        writer.add(*items(["a", "b", "c"]))
        writer.add(*items(["d", "e"], 7))
        writer.delete(["b"])
        assert writer.index is not None
        before = content(writer.index)
        assert fold_parts(writer, 10) == 2
    index = Index(tmp_path)
    assert len(index.manifest.parts) == 1
    assert content(index) == before
    assert index.verify() == []


def test_parts_with_and_without_are_not_folded_together(tmp_path: Path) -> None:
    with IndexWriter(tmp_path) as writer:
        begun(writer, made())
        writer.add(*items(["a", "b"]))
        writer.add(*make_items(["c"], 1, [1]))
        assert fold_parts(writer, 10) == 0
        with pytest.raises(RelookError, match="no keypoints of 'c'"):
            Index(tmp_path).keypoints(["c"])


def test_renamed_images_keep_theirs(tmp_path: Path) -> None:
    with IndexWriter(tmp_path) as writer:
        begun(writer, made())
        records, descriptions = items(["a", "b"])
        writer.add(records, descriptions)
        writer.revise({"b": replace(records[1], id="new", path="new.jpg")}, ["a"])
    index = Index(tmp_path)
    want = descriptions[1].keypoints
    assert want is not None
    np.testing.assert_array_equal(index.keypoints(["new"])[0].xy, want.xy)
    # A deleted row may have the id that a living one has now.
    with IndexWriter(tmp_path) as writer:
        writer.revise({"new": replace(records[1], id="a", path="a.jpg")})
        writer.use_keypoints(made("sift"))
        assert writer.index is not None
        writer.add_keypoints(writer.index.without_keypoints()[0], {"a": encode(some(8), "float16")})
    assert len(Index(tmp_path).keypoints(["a"])[0]) == 8


def test_some_images_only_are_refused(tmp_path: Path) -> None:
    with IndexWriter(tmp_path) as writer:
        begun(writer, made())
        records, descriptions = items(["a", "b"])
        with pytest.raises(RelookError, match="only 1 of 2 images of a part have keypoints"):
            writer.add(records, [descriptions[0], replace(descriptions[1], keypoints=None)])
        writer.use_keypoints(None)
        with pytest.raises(RelookError, match="not said to have any"):
            writer.add(records, descriptions)


def test_damage_is_named(tmp_path: Path) -> None:
    with IndexWriter(tmp_path) as writer:
        begun(writer, made())
        writer.add(*items(["a", "b"]))
    index = Index(tmp_path)
    path = tmp_path / index.manifest.parts[0].files["keypoints"].path
    path.write_bytes(path.read_bytes()[:-100])
    assert [line.startswith(f"{path}: ") for line in index.verify(quick=True)] == [True]
