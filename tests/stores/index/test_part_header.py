"""Parts are read by their header, and the same without it; any HDF5 reader reads them too."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.stores.index.keypoint_store import KeypointStore, encode, write_keypoints
from pipeline.stores.index.local_store import LocalStore, write_locals
from pipeline.stores.index.map_store import MapStore, write_maps
from pipeline.stores.index.part_header import HEADER_BYTES, header_of, place
from pipeline.types import Keypoints, LocalDescriptors

WIDTH = 8


def locals_of(count: int, seed: int) -> LocalDescriptors:
    rng = np.random.default_rng(seed)
    signs = np.where(rng.random((count, WIDTH)) < 0.5, -1, 1).astype(np.float32)
    xy, scale, weight = rng.random((count, 2)), rng.random(count), rng.random(count)
    return LocalDescriptors(signs, *(values.astype(np.float32) for values in (xy, scale, weight)))


def without_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.stores.index.plain_arrays.places_in", lambda *_: None)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=4), min_size=1, max_size=5),
    bits=st.booleans(),
    geometry=st.booleans(),
    data=st.data(),
)
def test_both_ways_give_what_was_written(
    parts: list[list[int]], bits: bool, geometry: bool, data: st.DataObject, tmp_path: Path
) -> None:
    files, items = {}, {}
    for number, counts in enumerate(parts):
        names = [f"{number}-{row}" for row in range(len(counts))]
        some = [locals_of(count, 10 * number + row) for row, count in enumerate(counts)]
        write_locals(tmp_path / f"{number}.h5", names, some, bits=bits, geometry=geometry)
        files |= {name: (tmp_path / f"{number}.h5", row) for row, name in enumerate(names)}
        items |= dict(zip(names, some, strict=True))
    wanted = data.draw(st.lists(st.sampled_from(sorted(items)), min_size=1, max_size=12))
    for header in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not header:
                without_header(patch)
            with LocalStore(lambda ids: [files[name] for name in ids]) as store:
                found = store.read(wanted)
        for name, item in zip(wanted, found, strict=True):
            np.testing.assert_array_equal(item.descriptors, items[name].descriptors)
            if geometry:
                np.testing.assert_array_equal(item.xy, items[name].xy)
                np.testing.assert_array_equal(item.scale, items[name].scale)
                np.testing.assert_array_equal(item.weight, items[name].weight)
            else:
                assert item.xy.shape == (0, 2)


@pytest.mark.parametrize("kind", ["maps", "keypoints"])
def test_maps_and_keypoints_both_ways(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, file = np.random.default_rng(0), tmp_path / "part.h5"
    maps = [tuple(rng.random((3, side, side)).astype(np.float16) for side in (1, 2)) for _ in "ab"]
    some = [np.float32(rng.random(shape)) for shape in ((5, 2), (5, WIDTH), 5, 5, 5)]
    keypoints = [Keypoints(*some, (0.0, 0.0, 9.0, 9.0)).first(count) for count in (5, 2)]

    def read() -> list[list[np.ndarray]]:
        def find(ids: object) -> list[tuple[Path, int] | None]:
            return [(file, 0), (file, 1)]

        if kind == "maps":
            with MapStore(find) as store:
                return [list(item) for item in store.read(["a", "b"])]
        with KeypointStore(find) as store:
            found = store.read(["a", "b"])
        return [[item.xy, item.descriptors, item.score, item.scale, item.orientation] for item in found]

    if kind == "maps":
        write_maps(file, ["a", "b"], maps)
    else:
        write_keypoints(file, ["a", "b"], [encode(item, "float16") for item in keypoints])
    by_header = read()
    without_header(monkeypatch)
    for one, other in zip(by_header, read(), strict=True):
        for here, there in zip(one, other, strict=True):
            np.testing.assert_array_equal(here, there)
    assert [len(item) for item in by_header[0]] == ([3, 3] if kind == "maps" else [5] * 5)


def test_hdf5_reads_behind_the_header(tmp_path: Path) -> None:
    write_locals(tmp_path / "part.h5", ["a"], [locals_of(3, 0)])
    with h5py.File(tmp_path / "part.h5") as file:
        assert file.userblock_size == HEADER_BYTES
        assert file["ids"][0] == b"a"
        np.testing.assert_array_equal(file["descriptors"][:], locals_of(3, 0).descriptors.astype(np.float16))


def test_a_header_is_not_written_where_it_has_no_room() -> None:
    many = {f"{number:050d}": place(1024, np.dtype("<f2"), (1,)) for number in range(16)}
    with pytest.raises(ValueError, match="more than 1,024"):
        header_of(many, 2048)
