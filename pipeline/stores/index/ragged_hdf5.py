"""What the HDF5 stores share: part files opened when first needed, one contiguous slice read per image.

Below `local_store.py`, `map_store.py` and `keypoint_store.py`, which say what a slice holds.
"""

from __future__ import annotations

import io
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import numpy as np

from pipeline.errors import RelookError
from pipeline.stores.index.part_header import HEADER_BYTES, header_of
from pipeline.stores.index.plain_arrays import OpenFiles, PlainArrays, Span

if TYPE_CHECKING:
    import h5py

_OPEN_FILES = 64

Item = TypeVar("Item")


def write_hdf5(path: Path, ids: Sequence[str], lengths: Sequence[int], fill: Callable[[h5py.File], None]) -> None:
    """Write a part of m images: a header, `ids`, `offsets` [m+1] int64 from `lengths`, and what `fill` adds."""
    import h5py  # only writers need it: readers go by the header

    from pipeline.stores.index.hdf5_places import places_of

    # Made in memory first: where the disk is full, the HDF5 library ends the whole process instead of raising.
    content = io.BytesIO()
    with h5py.File(content, "w", userblock_size=HEADER_BYTES) as file:
        file["offsets"] = np.cumsum([0, *lengths], dtype=np.int64)
        file.create_dataset("ids", data=list(ids), dtype=h5py.string_dtype())
        fill(file)
        places = places_of(file)
    whole = content.getbuffer()
    whole[:HEADER_BYTES] = header_of(places, len(whole))
    path.write_bytes(whole)


class RaggedStore(ABC, Generic[Item]):
    """Reads what images have in part files; from any thread, one call at a time.

    Args:
        find: gives for each image id the part file that it lies in and its row there, or None.
    """

    # What errors call the contents, and what to do when there are none.
    what = ""
    hint = ""

    def __init__(self, find: Callable[[Sequence[str]], list[tuple[Path, int] | None]]) -> None:
        self._find = find
        self._parts: dict[Path, PlainArrays] = {}
        self._files = OpenFiles(_OPEN_FILES)
        # A file must not be closed, or read somewhere else, while another thread reads it.
        self._lock = threading.RLock()

    def read(self, ids: Sequence[str]) -> list[Item]:
        """Items in the order of `ids`. Raises RelookError that names an id without any."""
        places = self._find(ids)
        with self._lock:
            return self.items([self._span(name, place) for name, place in zip(ids, places, strict=True)])

    def close(self) -> None:
        """Close every file; reading again opens them again."""
        with self._lock:
            self._files.close()
            self._parts.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def items(self, spans: Sequence[Span]) -> list[Item]:
        """What some images have, in order."""

    def _span(self, name: str, place: tuple[Path, int] | None) -> Span:
        if place is None:
            raise RelookError(f"the index has no {self.what} of {name!r}; {self.hint}")
        path, row = place
        if path not in self._parts:
            self._parts[path] = PlainArrays(path, self._files)
        return self._parts[path].span(row)
