"""What a reader of foreign descriptors hands on, and what all of them check.

Used by every file of this room. A message names the place in the source, which may have been written far from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import RelookError
from pipeline.types import FloatArray, LocalDescriptors

# A length that differs from 1 by less is that of a vector written with few digits; by still less, of one in float32.
_FEW_DIGITS = 1e-3
_AS_GOOD_AS_ONE = 1e-6


@dataclass(frozen=True)
class ExternalImage:
    """One image of a source.

    Attributes:
        id: its name.
        where: its place in the source, for messages.
        label: "" where the source has none.
        vector: [D] float32 as it came, or None.
        locals: its local descriptors, of unit length, strongest first; or None.
    """

    id: str
    where: str
    label: str = ""
    vector: FloatArray | None = None
    locals: LocalDescriptors | None = None


@dataclass(frozen=True)
class ExternalSource:
    """An opened source: its format, the scales that local descriptors come from (None: not known), and its images."""

    format: str
    scales: tuple[float, ...] | None
    images: Iterator[ExternalImage]


@dataclass(frozen=True)
class Options:
    """What a source may lack.

    Attributes:
        ids: a text file with the id of each row, one a line.
        globals: an array of a global descriptor per row: .npy, or float32 without a header as AMES's code writes it.
        scales: the scales that indices of scales mean.
    """

    ids: Path | None = None
    globals: Path | None = None
    scales: tuple[float, ...] | None = None


def unit_vector(vector: npt.NDArray[np.floating], where: str, normalise: bool) -> FloatArray:
    """`vector` [D] as float32 of unit length.

    Raises:
        RelookError: it is empty, has a value that is not finite, has length 0, or has not length 1 and `normalise` is
            not set.
    """
    if not len(vector):
        raise RelookError(f"{where}: its vector has no values")
    wrong = np.flatnonzero(~np.isfinite(vector))
    if len(wrong):
        raise RelookError(f"{where}: value {wrong[0] + 1} of its vector is {vector[wrong[0]]}")
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if length == 0.0:
        raise RelookError(f"{where}: its vector has length 0, which has no direction")
    if abs(length - 1) > _FEW_DIGITS and not normalise:
        raise RelookError(f"{where}: its vector has length {length:.6g}, not 1; --normalise divides by it")
    if abs(length - 1) > _AS_GOOD_AS_ONE:
        return (vector.astype(np.float64) / length).astype(np.float32)
    return np.ascontiguousarray(vector, dtype=np.float32)


def local_descriptors(
    descriptors: npt.NDArray[np.floating],
    xy: npt.NDArray[np.floating],
    scale: npt.NDArray[np.floating],
    weight: npt.NDArray[np.floating],
    where: str,
) -> LocalDescriptors:
    """Local descriptors [n, d] divided by their lengths, which all models that read them do as well, strongest first.

    Raises:
        RelookError: a value is not finite, a descriptor has length 0, or a weight is negative.
    """
    for name, values in (("descriptor", descriptors), ("place", xy), ("scale", scale), ("weight", weight)):
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0][0])
            raise RelookError(f"{where}: the {name} of local descriptor {row + 1} is not finite")
    if len(weight) and weight.min() < 0:
        row = int(weight.argmin())
        raise RelookError(f"{where}: the weight of local descriptor {row + 1} is {weight[row]:.6g}, less than 0")
    lengths = np.linalg.norm(descriptors.astype(np.float64), axis=1, keepdims=True)
    if not lengths.all():
        raise RelookError(f"{where}: local descriptor {int(lengths.argmin()) + 1} has length 0")
    order = np.argsort(-weight, kind="stable")
    columns = (descriptors / lengths, xy, scale, weight)
    return LocalDescriptors(*(np.ascontiguousarray(column[order], dtype=np.float32) for column in columns))


def peek(images: Iterator[ExternalImage], source: Path) -> tuple[ExternalImage, Iterator[ExternalImage]]:
    """The first image, and all of them. Raises RelookError naming `source` when there is none."""
    first = next(images, None)
    if first is None:
        raise RelookError(f"{source}: holds no images")
    return first, chain([first], images)


def read_ids(file: Path, count: int) -> list[str]:
    """The ids of `count` rows: of each line the text before the first comma or `;;`, as in AMES's and RRT's lists.

    Raises:
        RelookError: the file cannot be read, or has another number of lines.
    """
    try:
        # Not splitlines: an id may hold what Unicode calls a line separator.
        lines = file.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RelookError(f"{file}: cannot be read ({error})") from None
    if len(lines) != count:
        raise RelookError(f"{file}: {len(lines)} ids for {count} images")
    return [line.split(";;")[0].split(",")[0].strip() for line in lines]
