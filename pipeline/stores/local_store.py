"""Local descriptors at rest: ragged HDF5 parts, read one contiguous slice per image.

Written once per part by the index writer, read by rerankers. A part holds offsets [m+1] int64, ids [m], and
descriptors [n, d] float16, xy [n, 2], scale [n], weight [n] float32, where image i has rows offsets[i]:offsets[i+1].
float16 changes a unit vector's cosine by less than 1e-3 and halves the bytes (AMES stores them so too).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from pipeline.errors import RelookError
from pipeline.types import LocalDescriptors

_OPEN_FILES = 64


def write_locals(path: Path, ids: Sequence[str], items: Sequence[LocalDescriptors]) -> None:
    """Write the local descriptors of m images, in order."""
    offsets = np.cumsum([0, *(len(item) for item in items)], dtype=np.int64)
    # Made in memory first: where the disk is full, the HDF5 library ends the whole process instead of raising.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["offsets"] = offsets
        file.create_dataset("ids", data=list(ids), dtype=h5py.string_dtype())
        file["descriptors"] = np.concatenate([item.descriptors for item in items]).astype(np.float16)
        for name in ("xy", "scale", "weight"):
            file[name] = np.concatenate([getattr(item, name) for item in items]).astype(np.float32)
    path.write_bytes(content.getbuffer())


class LocalStore:
    """Reads local descriptors of the images in `rows`; files are opened when first needed.

    Args:
        rows: for each image id, the part file that holds it and its row there.
    """

    def __init__(self, rows: dict[str, tuple[Path, int]]) -> None:
        self._rows = rows
        self._files: dict[Path, h5py.File] = {}
        self._offsets: dict[Path, np.ndarray] = {}

    def read(self, ids: Sequence[str]) -> list[LocalDescriptors]:
        """Local descriptors in the order of `ids`. Raises RelookError that names an id without any."""
        return [self._read_one(name) for name in ids]

    def close(self) -> None:
        """Close every file; reading again opens them again."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._offsets.clear()

    def __enter__(self) -> LocalStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_one(self, name: str) -> LocalDescriptors:
        if name not in self._rows:
            raise RelookError(
                f"the index holds no local descriptors of {name!r}; extract with describe.locals.count > 0"
            )
        path, row = self._rows[name]
        try:
            file = self._open(path)
            first, last = self._offsets[path][row : row + 2]
            return LocalDescriptors(
                file["descriptors"][first:last].astype(np.float32),
                file["xy"][first:last],
                file["scale"][first:last],
                file["weight"][first:last],
            )
        except (OSError, KeyError, ValueError, RuntimeError) as error:  # h5py has no error of its own
            raise RelookError(f"{path}: cannot be read ({error})") from None

    def _open(self, path: Path) -> h5py.File:
        if path not in self._files:
            if len(self._files) >= _OPEN_FILES:
                self.close()
            file = h5py.File(path, "r")
            self._offsets[path] = file["offsets"][:]
            self._files[path] = file
        return self._files[path]
