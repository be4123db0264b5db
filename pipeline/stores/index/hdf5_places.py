"""Where the arrays of an HDF5 file lie, as the HDF5 library says, for files that do nothing but hold arrays.

Below `plain_arrays.py`, for parts without a header, and `ragged_hdf5.py`, which makes headers. HDF5 can refer to any
other file on the disk, compute what is not there, and call filters that it loads: each of these is refused.
"""

from __future__ import annotations

from pathlib import Path

import h5py

from pipeline.stores.index.part_header import Place, place

_MOST_DATASETS = 16


def read_places(path: Path) -> dict[str, Place]:
    """The arrays of numbers in a part. Raises OSError, KeyError, ValueError or RuntimeError where it is none."""
    with open_hdf5(path) as file:
        _refuse_foreign(file, path.stat().st_size)
        return places_of(file)


def places_of(file: h5py.File) -> dict[str, Place]:
    """The arrays of numbers in an open file, each in one piece. Raises ValueError where one is not."""
    return {name: _place_of(file[name]) for name in file if name != "ids"}


def open_hdf5(path: Path) -> h5py.File:
    """Open a file to read. Parts never change, so no lock is needed, and some file systems have none."""
    return h5py.File(path, "r", locking=False)


def own_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A dataset whose values lie in the file itself. Raises ValueError where it is anything else."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"refused: {name} is a link to somewhere else")
    data = file[name]
    if not isinstance(data, h5py.Dataset):
        raise ValueError(f"refused: {name} is no dataset")
    if data.is_virtual or data.external:
        raise ValueError(f"refused: the values of {name} lie in another file")
    return data


def _place_of(data: h5py.Dataset) -> Place:
    offset = data.id.get_offset()
    if offset is None and data.size:
        raise ValueError(f"refused: {data.name} is not stored in one piece")
    return place(offset or 0, data.dtype, data.shape)


def _refuse_foreign(file: h5py.File, size: int) -> None:
    """A part has plain arrays, each of which lies in the file whole. Raises ValueError for anything else."""
    if len(file) > _MOST_DATASETS:
        raise ValueError(f"it holds {len(file):,} datasets")
    for name in file:
        data = own_dataset(file, name)
        if data.chunks is not None:
            raise ValueError(f"refused: {name} is not stored in one piece")
        # Of a dataset that was never written HDF5 makes up the values, as many as it claims.
        if data.size * data.dtype.itemsize > min(size, data.id.get_storage_size()):
            raise ValueError(f"refused: {name} has {data.size:,} values, which the file does not hold")
        if data.dtype.kind not in "iuf" and name != "ids":
            raise ValueError(f"refused: {name} holds no numbers")
