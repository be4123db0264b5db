"""The first bytes of a part file: where each of its arrays lies, so that a reader need not parse HDF5.

Between `ragged_hdf5.py`, which writes parts, and `plain_arrays.py`, which reads them. HDF5 leaves a user block before
its own first byte to whoever writes the file; any HDF5 reader skips it. Opening a part by the HDF5 library takes a
millisecond, and a search of local descriptors touches a hundred parts. Files from before there was a header have none,
and one that was made for a file of another length says nothing: something rewrote the file, or cut it short.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

# Bytes of the user block: HDF5 takes powers of two from 512 on, and keypoints have seven arrays of 50 bytes of text.
HEADER_BYTES = 1024
_MAGIC = b"relook-part 1 "
# A hostile header must not make a reader loop or allocate.
_MOST_ARRAYS = 16
_MOST_AXES = 4
_MOST_WIDTH = 2**31


class Place(NamedTuple):
    """Where the values of an array begin in a file, in bytes, what they are, and the bytes of one row."""

    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    width: int


def place(offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Place:
    """The place of an array of at least one axis. Raises ValueError where it has none, or rows are absurdly long."""
    if not shape:
        raise ValueError("an array has no rows")
    width = dtype.itemsize * math.prod(shape[1:])
    if width > _MOST_WIDTH:
        raise ValueError(f"an array has rows of {width:,} bytes")
    return Place(offset, dtype, shape, width)


def header_of(places: Mapping[str, Place], size: int) -> bytes:
    """The `HEADER_BYTES` of a file of `size` bytes with these arrays. Raises ValueError where they are too many."""
    arrays = {name: [found.offset, found.dtype.str, list(found.shape)] for name, found in places.items()}
    content = _MAGIC + json.dumps({"bytes": size, "arrays": arrays}, separators=(",", ":")).encode()
    if len(content) > HEADER_BYTES:
        raise ValueError(f"the header of a part would have {len(content):,} bytes, more than {HEADER_BYTES:,}")
    return content.ljust(HEADER_BYTES)


def places_in(header: bytes, size: int) -> dict[str, Place] | None:
    """The arrays that a header names, or None where there is no header of a file of this length: HDF5 has to say.

    Args:
        header: the first `HEADER_BYTES` of the file, or all of a shorter one.
        size: bytes of the file.

    Raises:
        ValueError: the header is damaged, or an array is of no numbers or does not lie in the file.
    """
    if not header.startswith(_MAGIC):
        return None
    try:
        said = json.loads(header[len(_MAGIC) :])
        if said["bytes"] != size:
            return None
        if len(said["arrays"]) > _MOST_ARRAYS:
            raise ValueError(f"{len(said['arrays']):,} arrays")
        return {name: _checked(*values, size=size) for name, values in said["arrays"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"its header is damaged: {error}") from None


def _checked(offset: Any, dtype: Any, shape: Any, *, size: int) -> Place:
    if not all(type(number) is int and number >= 0 for number in (offset, *shape)) or len(shape) > _MOST_AXES:
        raise ValueError(f"an array of shape {str(shape)[:60]} at {str(offset)[:20]}")
    kind = np.dtype(str(dtype))
    if kind.kind not in "iuf":
        raise ValueError("an array holds no numbers")
    found = place(offset, kind, tuple(shape))
    if offset + found.width * shape[0] > size:
        raise ValueError(
            f"an array ends after byte {offset:,} + {found.width:,} x {shape[0]:,}, the file after {size:,}"
        )
    return found
