"""What an index keeps beside the globals: maps, bits, fewer locals, none of their geometry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from stores_helpers import DIMENSION, FITTED, ROOT, make_card, make_locals, unit_vectors

from pipeline.errors import RelookError
from pipeline.stores import Index, IndexWriter
from pipeline.types import Description, FeatureMaps, ImageRecord, LocalDescriptors


def maps_of(seed: int, height: int = 3, width: int = 5) -> FeatureMaps:
    """Two levels whose values survive the way through float16."""
    rng = np.random.default_rng(seed)
    return tuple(
        rng.normal(size=(4, *size)).astype(np.float16).astype(np.float32)
        for size in ((height, width), (height * 2, width))
    )


def write(directory: Path, descriptions: list[Description], **settings: Any) -> Index:
    records = [ImageRecord(id=f"image {number}", path=f"{number}.jpg") for number in range(len(descriptions))]
    with IndexWriter(directory) as writer:
        writer.begin(make_card(settings=settings), FITTED, ROOT, "parquet")
        writer.add(records, descriptions)
    return Index(directory)


def described(count: int, **parts: Any) -> list[Description]:
    vectors = unit_vectors(count, DIMENSION)
    return [
        Description(vectors[number], **{name: make(number) for name, make in parts.items()}) for number in range(count)
    ]


def bits_of(seed: int, count: int = 3, width: int = 16) -> LocalDescriptors:
    plain = make_locals(count, seed)
    signs = np.where(np.random.default_rng(seed).random((count, width)) > 0.5, 1, -1).astype(np.float32)
    return LocalDescriptors(signs, plain.xy, plain.scale, plain.weight)


def test_maps_of_different_sizes_come_back_as_they_were(tmp_path: Path) -> None:
    made = [maps_of(0), maps_of(1, 1, 1), maps_of(2, 7, 2)]
    index = write(tmp_path, described(3, maps=lambda number: made[number]))
    found = index.maps(["image 2", "image 0", "image 1", "image 0"])
    for item, number in zip(found, (2, 0, 1, 0), strict=True):
        assert len(item) == 2
        for level, expected in zip(item, made[number], strict=True):
            assert level.dtype == np.float16
            np.testing.assert_array_equal(level, expected)
    assert not index.verify()
    with pytest.raises(RelookError, match=r"no feature maps of 'other'.*describe\.maps\.levels"):
        index.maps(["other"])
    with pytest.raises(RelookError, match="no local descriptors of 'image 0'"):
        index.locals(["image 0"])


def test_maps_of_a_deleted_image_are_gone(tmp_path: Path) -> None:
    write(tmp_path, described(2, maps=maps_of))
    with IndexWriter(tmp_path) as writer:
        writer.delete(["image 0"])
    index = Index(tmp_path)
    assert len(index.maps(["image 1"])) == 1
    with pytest.raises(RelookError, match="no feature maps of 'image 0'"):
        index.maps(["image 0"])


def test_only_some_with_maps_is_an_error(tmp_path: Path) -> None:
    mixed = [*described(1, maps=maps_of), *described(1)]
    with pytest.raises(RelookError, match="only 1 of 2 images of a part have feature maps"):
        write(tmp_path, mixed)


def test_bits_take_an_eighth_of_a_byte_and_come_back(tmp_path: Path) -> None:
    settings = {"locals": {"projection": {"kind": "ames_bits", "weights": "sha256:0"}, "geometry": False}}
    made = [bits_of(number, count) for number, count in enumerate((3, 0, 5))]
    index = write(tmp_path, described(3, locals=lambda number: made[number]), **settings)
    for item, expected in zip(index.locals([f"image {number}" for number in range(3)]), made, strict=True):
        np.testing.assert_array_equal(item.descriptors, expected.descriptors)
        assert (item.xy.shape, item.scale.shape, item.weight.shape) == ((0, 2), (0,), (0,))
    part = next((tmp_path / "locals").glob("*.h5"))
    with h5py.File(part, locking=False) as file:  # as the index has it open
        assert file["bits"].shape == (8, 2)
        assert file["bits"].dtype == np.uint8
        assert set(file) == {"bits", "ids", "offsets"}


def test_fewer_locals_are_kept_than_described(tmp_path: Path) -> None:
    index = write(tmp_path, described(2, locals=lambda number: make_locals(6, number)), locals={"stored": 4})
    found = index.locals(["image 1"])[0]
    assert len(found) == 4
    np.testing.assert_array_equal(found.descriptors, make_locals(6, 1).descriptors[:4])
    np.testing.assert_array_equal(found.xy, make_locals(6, 1).xy[:4])


def test_a_damaged_part_of_maps_is_named(tmp_path: Path) -> None:
    write(tmp_path, described(1, maps=maps_of))
    part = next((tmp_path / "maps").glob("*.h5"))
    part.write_bytes(part.read_bytes()[:200])
    index = Index(tmp_path)
    with pytest.raises(RelookError, match=f"{part.name}.*cannot be read"):
        index.maps(["image 0"])
    assert any(part.name in line for line in index.verify())
