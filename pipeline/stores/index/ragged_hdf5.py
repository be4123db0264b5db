"""What the HDF5 stores share: part files opened when first needed, one contiguous slice read per image.

Below `local_store.py` and `map_store.py`, which say what a slice holds.
"""

from __future__ import annotations

import io
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

import h5py
import numpy as np

from pipeline.errors import RelookError

_OPEN_FILES = 64
_MOST_DATASETS = 16

Item = TypeVar("Item")


def write_hdf5(path: Path, ids: Sequence[str], lengths: Sequence[int], fill: Callable[[h5py.File], None]) -> None:
    """Write a part of m images: `ids`, `offsets` [m+1] int64 from `lengths`, and what `fill` adds."""
    # Made in memory first: where the disk is full, the HDF5 library ends the whole process instead of raising.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["offsets"] = np.cumsum([0, *lengths], dtype=np.int64)
        file.create_dataset("ids", data=list(ids), dtype=h5py.string_dtype())
        fill(file)
    path.write_bytes(content.getbuffer())


def open_hdf5(path: Path) -> h5py.File:
    """Open a file to read. Parts never change, so no lock is needed, and some file systems have none."""
    return h5py.File(path, "r", locking=False)


class RaggedStore(ABC, Generic[Item]):
    """Reads what images have in part files; from any thread, one image at a time.

    Args:
        find: gives for each image id the part file that it lies in and its row there, or None.
    """

    # What errors call the contents, and what to do when there are none.
    what = ""
    hint = ""

    def __init__(self, find: Callable[[Sequence[str]], list[tuple[Path, int] | None]]) -> None:
        self._find = find
        self._files: dict[Path, h5py.File] = {}
        self._kept: dict[tuple[int, str], np.ndarray] = {}
        # The HDF5 library does one thing at a time anyway; a file must not be closed while another thread reads it.
        self._lock = threading.RLock()

    def read(self, ids: Sequence[str]) -> list[Item]:
        """Items in the order of `ids`. Raises RelookError that names an id without any."""
        return [self._read_one(name, place) for name, place in zip(ids, self._find(ids), strict=True)]

    def close(self) -> None:
        """Close every file; reading again opens them again."""
        with self._lock:
            for file in self._files.values():
                file.close()
            self._files.clear()
            self._kept.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def slice_of(self, file: h5py.File, row: int, first: int, last: int) -> Item:
        """What the image in `row` has in `file`, whose values lie at first:last."""

    def whole(self, file: h5py.File, name: str) -> np.ndarray:
        """A small array of an open part, read once."""
        key = (file.id.id, name)
        if key not in self._kept:
            self._kept[key] = file[name][:]
        return self._kept[key]

    def _read_one(self, name: str, place: tuple[Path, int] | None) -> Item:
        if place is None:
            raise RelookError(f"the index has no {self.what} of {name!r}; {self.hint}")
        path, row = place
        try:
            with self._lock:
                file = self._open(path)
                first, last = self.whole(file, "offsets")[row : row + 2]
                if not 0 <= first <= last:
                    raise ValueError(f"row {row} would reach from {first} to {last}")
                return self.slice_of(file, row, first, last)
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:  # h5py has no error of its own
            raise RelookError(f"{path}: cannot be read ({error})") from None

    def _open(self, path: Path) -> h5py.File:
        if path not in self._files:
            if len(self._files) >= _OPEN_FILES:
                self.close()
            file = open_hdf5(path)
            try:
                _refuse_foreign(file, path.stat().st_size)
            except BaseException:
                file.close()
                raise
            self._files[path] = file
        return self._files[path]


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


def _refuse_foreign(file: h5py.File, size: int) -> None:
    """HDF5 can refer to any other file on the disk, compute what is not there, and call filters that it loads.

    A part has plain arrays, each of which lies in the file whole. Raises ValueError for anything else.
    """
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
