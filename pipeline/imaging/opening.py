"""Encoded bytes opened by Pillow, without the limits and the formats that belong to the host program.

Below `decode`. Formats of other packages are opened here too; one that is not installed has its reason, which names the
extra of relook.
"""

from __future__ import annotations

import importlib
import struct
from functools import cache
from typing import Any

from PIL import Image, ImageFile

from pipeline.imaging.limits import TimedBytes

# Formats read by another package: what it reads, its name, relook's extra.
_EXTRAS = {
    "HEIF": ("HEIC is", "pillow-heif", "heif"),
    "JXL": ("JPEG XL is", "pillow-jxl-plugin", "jxl"),
    "RAW": ("camera raw files are", "rawpy", "raw"),
}


class UnknownError(Exception):
    """No format begins with such bytes."""


class DamagedError(Exception):
    """A file of Pillow's format `name` whose pixels cannot be decoded, and what the decoder raised."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(" ".join(str(error).split()) or type(error).__name__)
        self.name = name


class UnsupportedError(Exception):
    """A format that relook knows and cannot read; the text is the whole reason."""


def open_picture(kind: str | None, stream: TimedBytes) -> ImageFile.ImageFile:
    """What Image.open does, without its limit of pixels, which is the host program's.

    Raises:
        SyntaxError, DamagedError: the file has the first bytes of a format, and not its structure.
        UnknownError: no format has such first bytes.
        UnsupportedError: another package reads this format.
    """
    if kind == "HEIF":
        image: ImageFile.ImageFile = _plugin("pillow_heif", kind).HeifImageFile(stream, "")
        return image
    if kind == "JXL":
        _plugin("pillow_jxl", kind)
        return _from_plugin("JXL", stream)
    prefix = stream.read(16)
    first: Exception | None = None
    for name in _formats() if kind is None or kind not in Image.OPEN else (kind,):
        accepted = _accepts(name, prefix)
        if isinstance(accepted, str):
            raise UnsupportedError(accepted)
        try:
            if accepted is not False:
                return _from_plugin(name, stream)
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            if accepted and first is None:
                first = DamagedError(name, error) if kind is None else error
    raise first or UnknownError


def _accepts(name: str, prefix: bytes) -> bool | str | None:
    """Whether a format of Pillow's begins so; None where the format has no such test; a text: Pillow cannot read it."""
    accept = Image.OPEN[name][1]
    try:
        return None if accept is None else accept(prefix)
    except (IndexError, TypeError, struct.error):  # of a file of a few bytes
        return False


def _from_plugin(name: str, stream: TimedBytes) -> ImageFile.ImageFile:
    stream.seek(0)
    image = Image.OPEN[name][0](stream, "")
    assert isinstance(image, ImageFile.ImageFile)
    return image


def _plugin(module: str, kind: str) -> Any:
    """A package that is an extra. Importing it changes nothing but, for JPEG XL, Pillow's list of formats."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UnsupportedError(missing_reason(kind)) from None


@cache
def _formats() -> tuple[str, ...]:
    """All that Pillow opens, but EPS: that is a program, which Pillow has Ghostscript execute."""
    Image.init()
    return tuple(name for name in Image.ID if name not in ("EPS", "HEIF", "JXL"))


def missing_reason(kind: str) -> str:
    """The reason for a format whose package is not installed."""
    subject, package, extra = _EXTRAS[kind]
    return f'{subject} read where {package} is installed (pip install "relook[{extra}]")'
