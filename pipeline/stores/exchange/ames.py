"""AMES's local descriptors: an HDF5 file with `features` [N, k, 5 + d].

One of the foreign formats, read and written; Suma et al., ECCV 2024, and the extraction code that its authors released.
The five columns are two of the position, the index of the scale, 1 where the row is padding, and the weight. The file
names no images and holds no global descriptors; relook adds `ids` and the scales to what it writes, which AMES's code
leaves alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from pipeline.errors import RelookError
from pipeline.files import atomic_path, write_errors
from pipeline.stores.exchange.base import ExternalImage, ExternalSource, Options, local_descriptors, read_ids
from pipeline.stores.index.hdf5_places import own_dataset
from pipeline.types import Box, FloatArray, LocalDescriptors

_BESIDES = 5
_CHUNK_BYTES = 64 << 20
# What the authors' code extracts at, by the width of its descriptors: CVNet's three scales, and one of DINOv2.
_SCALES = {1024: (0.7071, 1.0, 1.4142)}


def open_ames(source: Path, options: Options) -> ExternalSource:
    """Open such a file; what it lacks comes from `options`. Without ids the rows' numbers are the ids.

    Raises:
        RelookError: it is no HDF5 file with such `features`, or what `options` names does not fit; later, a row is bad.
    """
    file = _opened(source)
    features = _features(file, source)
    default = _SCALES.get(features.shape[2] - _BESIDES, (1.0,))
    scales: tuple[float, ...] = options.scales or _own_scales(features) or default
    names = _names(file, source, options, len(features))
    vectors = None if options.globals is None else _globals(options.globals, len(features))
    return ExternalSource("ames", scales, _images(source, features, names, vectors, scales))


def write_ames(
    target: Path,
    ids: Sequence[str],
    images: Iterable[LocalDescriptors],
    count: int,
    scales: Sequence[float],
    places: Iterable[OfficialPlaces] | None = None,
) -> None:
    """Write the first `count` local descriptors of images, with padding where one has fewer.

    Args:
        target: the HDF5 file.
        ids: N names.
        images: N images with places; their `scale` is 1 over one of `scales`.
        count: k.
        scales: as the model card's `locals.scales`; the index in it is what the file holds.
        places: of each image, how the authors write positions; None: x and y as they are.
    """
    stored: h5py.Dataset | None = None
    with write_errors(target), atomic_path(target) as temporary, h5py.File(temporary, "w", locking=False) as file:
        for row, (image, place) in enumerate(zip(images, repeat(None) if places is None else places, strict=False)):
            values = rows_of(image, count, scales, place)
            if stored is None:
                stored = file.create_dataset("features", shape=(len(ids), *values.shape), dtype=np.float32)
                stored.attrs["scales"] = np.asarray(scales, dtype=np.float64)
            stored[row] = values
        file.create_dataset("ids", data=np.array(ids, dtype=object), dtype=h5py.string_dtype())


def rows_of(
    image: LocalDescriptors, count: int, scales: Sequence[float], places: OfficialPlaces | None = None
) -> FloatArray:
    """The first `count` local descriptors of an image as rows [count, 5 + d] of such a file.

    Args:
        image: with places.
        count: rows; those behind the last descriptor are padding.
        scales: see `write_ames`.
        places: how the authors write positions; None: x and y as they are.
    """
    part = image.first(count)
    factors = 1.0 / np.asarray(scales, dtype=np.float64)
    values = np.zeros((count, part.descriptors.shape[1] + _BESIDES), dtype=np.float32)
    values[len(part) :, 3] = 1
    values[: len(part), :2] = part.xy
    values[: len(part), 2] = np.abs(part.scale[:, None] - factors).argmin(axis=1)
    values[: len(part), 4] = part.weight
    values[: len(part), _BESIDES:] = part.descriptors
    if places is not None:
        values[:, :2] = places.columns(part.xy, count)
    return values


@dataclass(frozen=True)
class OfficialPlaces:
    """Positions of one image's local descriptors as the authors' extraction writes them: row before column.

    Attributes:
        width, height: of the photo, pixels.
        box: the part that was described; None: all of it.
        fractions: as their code for DINOv2 writes them, in fractions of the photo's sides; else as for CVNet, in pixels
            from the corner of the box.
    """

    width: int
    height: int
    box: Box | None
    fractions: bool

    def columns(self, xy: FloatArray, count: int) -> FloatArray:
        """The first two columns [count, 2] of places [n, 2]; the padding behind is 0, or where the quirk moves it.

        Quirk: of a box's fractions the row is scaled by the box's width, moved by its left edge and divided by the
        photo's width, and the column by what belongs to rows.
        """
        left, top, right, bottom = self.box or (0.0, 0.0, float(self.width), float(self.height))
        corner = max(0, int(left)), max(0, int(top))
        side = min(self.width, int(right)) - corner[0], min(self.height, int(bottom)) - corner[1]
        places = np.zeros((count, 2))
        places[: len(xy)] = xy[:, ::-1] - np.array(corner[::-1])
        if self.fractions:
            places /= np.array(side[::-1])
            if self.box is not None:
                places = (places * (right - left, bottom - top) + (left, top)) / (self.width, self.height)
        return places.astype(np.float32)


def _opened(source: Path) -> h5py.File:
    try:
        return h5py.File(source, "r", locking=False)
    except OSError as error:
        raise RelookError(f"{source}: not an HDF5 file ({' '.join(str(error).split())})") from None


def _features(file: h5py.File, source: Path) -> h5py.Dataset:
    if "features" not in file.keys():  # noqa: SIM118, `in file` follows links
        raise RelookError(f"{source}: has no dataset 'features'; it has: {', '.join(file) or 'none'}")
    features = _own(file, "features", source)
    if features.dtype.kind != "f" or len(features.shape) != 3 or min(features.shape) < 1:
        raise RelookError(f"{source}: features of shape {features.shape} and type {features.dtype}")
    if features.shape[2] <= _BESIDES:
        raise RelookError(f"{source}: rows of {features.shape[2]} values; there are five before the descriptor")
    return features


def _own(file: h5py.File, name: str, source: Path) -> h5py.Dataset:
    try:
        data = own_dataset(file, name)
        # Of what was never written HDF5 makes up the values, as many as the dataset claims to have.
        if data.size and not data.id.get_storage_size():
            raise ValueError(f"refused: {name} has {data.size:,} values, which the file does not hold")
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise RelookError(f"{source}: {error}") from None
    return data


def _own_scales(features: h5py.Dataset) -> tuple[float, ...] | None:
    values = np.atleast_1d(features.attrs.get("scales", []))
    usable = (
        values.dtype.kind == "f" and values.ndim == 1 and len(values) and np.isfinite(values).all() and values.min() > 0
    )
    return tuple(float(value) for value in values) if usable else None


def _names(file: h5py.File, source: Path, options: Options, count: int) -> list[str]:
    if options.ids is not None:
        return read_ids(options.ids, count)
    if "ids" not in file:
        return [f"{row:0{len(str(count))}d}" for row in range(count)]
    try:
        names = [str(name) for name in _own(file, "ids", source).asstr()[: count + 1]]
    except (OSError, TypeError, ValueError, AttributeError) as error:
        raise RelookError(f"{source}: its ids cannot be read ({error})") from None
    if len(names) != count:
        raise RelookError(f"{source}: {len(names)} ids for {count} images")
    return names


def _globals(file: Path, count: int) -> npt.NDArray[np.floating]:
    """[N, D] values; memory-mapped, because N may be a million."""
    try:
        if file.suffix == ".npy":
            array: Any = np.load(file, mmap_mode="r", allow_pickle=False)
        else:
            if file.open("rb").read(2) == b"PK":
                raise RelookError(f"{file}: saved by torch.save; numpy.save(..., tensor.numpy()) makes a .npy of it")
            array = np.memmap(file, dtype=np.float32, mode="r")
            array = array.reshape(count, -1)
    except (OSError, ValueError) as error:
        raise RelookError(f"{file}: not the global descriptors of {count} images ({error})") from None
    if array.ndim != 2 or len(array) != count or array.dtype.kind != "f":
        raise RelookError(f"{file}: holds {array.dtype} of shape {array.shape}; expected [{count}, D]")
    values: npt.NDArray[np.floating] = array
    return values


def _images(
    source: Path,
    features: h5py.Dataset,
    names: list[str],
    vectors: npt.NDArray[np.floating] | None,
    scales: Sequence[float],
) -> Iterator[ExternalImage]:
    step = max(1, _CHUNK_BYTES // (features.dtype.itemsize * int(np.prod(features.shape[1:]))))
    for start in range(0, len(names), step):
        try:
            block = np.asarray(features[start : start + step])
        except OSError as error:
            raise RelookError(f"{source}: damaged at image {start + 1} or later ({error})") from None
        for row, values in enumerate(block, start=start):
            where = f"{source}, image {row + 1} ({names[row]!r})"
            vector = None if vectors is None else np.asarray(vectors[row])
            yield ExternalImage(names[row], where, vector=vector, locals=_locals(values, scales, where))


def _locals(values: FloatArray, scales: Sequence[float], where: str) -> LocalDescriptors:
    mask = values[:, 3]
    if not np.isin(mask, (0, 1)).all():
        raise RelookError(f"{where}: column 4 says which rows are padding, by 0 and 1; it holds {mask.max()}")
    kept = values[mask == 0]
    index = kept[:, 2]
    known = np.isin(index, np.arange(len(scales)))
    if not known.all():
        raise RelookError(
            f"{where}: scale number {index[~known][0]:g}, but there are {len(scales)} scales "
            f"({', '.join(f'{scale:g}' for scale in scales)}); name them with --scales"
        )
    factors = 1.0 / np.asarray(scales, dtype=np.float64)
    return local_descriptors(kept[:, _BESIDES:], kept[:, :2], factors[index.astype(np.intp)], kept[:, 4], where)
