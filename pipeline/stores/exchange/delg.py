"""DELG's descriptors: a folder with `NAME.delg_global` and `NAME.delg_local` for each image.

One of the foreign formats: protocol buffers of DELF (messages DatumProto and DelfFeatures of its datum.proto and
feature.proto; Cao, Araujo, Sim, "Unifying Deep Local and Global Features", ECCV 2020). The messages are declared here
as data for the protobuf library, which then reads them in C.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from pipeline.errors import RelookError
from pipeline.stores.exchange.base import ExternalImage, ExternalSource, Options, local_descriptors
from pipeline.types import FloatArray, LocalDescriptors

SUFFIXES = (".delg_global", ".delg_local")
_MAX_BYTES = 256 << 20


def open_delg(source: Path, options: Options) -> ExternalSource:
    """A folder, searched to any depth, or one of its files. Ids are the paths below it without the ending.

    A scale is 1 over the factor by which the image was resized, as in relook's own format.

    Raises:
        RelookError: there is no such file in it; later, a file cannot be read or holds something else.
    """
    root = source if source.is_dir() else source.parent
    files = [source] if source.is_file() else [file for suffix in SUFFIXES for file in source.rglob(f"*{suffix}")]
    stems = sorted({file.with_suffix("").relative_to(root).as_posix() for file in files})
    if not stems:
        raise RelookError(f"{source}: holds no {' or '.join(SUFFIXES)} files")
    return ExternalSource("delg", options.scales, _images(root, stems))


def _images(root: Path, stems: list[str]) -> Iterator[ExternalImage]:
    for stem in stems:
        vector, local = (root / f"{stem}{suffix}" for suffix in SUFFIXES)
        yield ExternalImage(
            id=stem,
            where=str(vector if vector.exists() else local),
            vector=_datum(_read(vector, "DatumProto"), vector) if vector.exists() else None,
            locals=_features(_read(local, "DelfFeatures"), local) if local.exists() else None,
        )


def _features(features: Any, file: Path) -> LocalDescriptors:
    """`DelfFeatures`: one descriptor, place, scale and strength per feature; orientations are not used."""
    found = features.feature
    rows = [_datum(item.descriptor, file) for item in found]
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise RelookError(f"{file}: its descriptors have {min(widths)} and {max(widths)} values")
    return local_descriptors(
        np.stack(rows) if rows else np.zeros((0, 0), np.float32),
        np.array([(item.x, item.y) for item in found], np.float32).reshape(-1, 2),
        np.array([item.scale for item in found], np.float32),
        np.array([item.strength for item in found], np.float32),
        str(file),
    )


def _datum(datum: Any, file: Path) -> FloatArray:
    """`DatumProto`: values, and a shape that must be that of one vector."""
    values = np.array(datum.float_list.value, dtype=np.float32)
    shape = list(datum.shape.dim)
    if [size for size in shape if size != 1] != [len(values)][: len(values) != 1]:
        raise RelookError(f"{file}: expected one vector, found {len(values)} values of shape {shape}")
    return values


def _read(file: Path, name: str) -> Any:
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise RelookError(f"{file}: {file.stat().st_size} bytes are too many for the descriptors of one image")
        content = _messages()[name]()
        content.ParseFromString(file.read_bytes())
    except OSError as error:
        raise RelookError(f"{file}: cannot be read ({error.strerror})") from None
    except message.DecodeError as error:
        raise RelookError(f"{file}: not a {name} of DELF ({' '.join(str(error).split())})") from None
    return content


@cache
def _messages() -> dict[str, Any]:
    """The classes of DELF's messages, by name."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="relook/delf.proto", package="delf.protos", syntax="proto2")

    def declare(name: str, *fields: tuple[str, int, int, str | None, bool]) -> None:
        added = file.message_type.add(name=name)
        for field_name, number, kind, of, repeated in fields:
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            one = added.field.add(name=field_name, number=number, type=kind, label=label)
            if of is not None:
                one.type_name = f".delf.protos.{of}"
            elif repeated:
                one.options.packed = True

    inner, real = field.TYPE_MESSAGE, field.TYPE_FLOAT
    declare("DatumShape", ("dim", 1, field.TYPE_INT64, None, True))
    declare("FloatList", ("value", 1, real, None, True))
    declare("DatumProto", ("shape", 1, inner, "DatumShape", False), ("float_list", 2, inner, "FloatList", False))
    numbers = [(name, row, real, None, False) for row, name in enumerate(_NUMBERS, start=2)]
    declare("DelfFeature", ("descriptor", 1, inner, "DatumProto", False), *numbers)
    declare("DelfFeatures", ("feature", 1, inner, "DelfFeature", True))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = [added.name for added in file.message_type]
    find = pool.FindMessageTypeByName
    return {name: message_factory.GetMessageClass(find(f"delf.protos.{name}")) for name in names}


_NUMBERS = ("x", "y", "scale", "orientation", "strength")
