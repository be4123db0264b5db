"""Camera raw files: the preview that the camera embedded where it is large enough, else the developed picture.

Below `decode`. LibRaw reads them, through rawpy (the extra `raw`).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from PIL import Image

from pipeline.errors import ImageError
from pipeline.imaging.exif import upright
from pipeline.imaging.jpeg import read_jpeg
from pipeline.imaging.limits import Deadline

# A preview with a shorter long side is too small to be described: the raw picture is developed instead.
MIN_PREVIEW = 1024
# LibRaw's turns, as EXIF orientations.
_ORIENTATIONS = {0: 1, 3: 3, 5: 8, 6: 6}
# Orientations that are not their own inverse.
_INVERSE = {6: 8, 8: 6}


def read_raw(
    data: bytes,
    check_size: Callable[[tuple[int, int]], None],
    decode_preview: Callable[[bytes], Image.Image],
    deadline: Deadline,
) -> Image.Image:
    """The upright sRGB picture of a raw file.

    Args:
        data: the file.
        check_size: raises for a width and height that are too large.
        decode_preview: decodes an embedded JPEG, and turns it as its own metadata states; where it raises ImageError,
            the raw picture is developed.
        deadline: of reading and decoding.

    Raises:
        ModuleNotFoundError: rawpy is not installed.
        rawpy.LibRawError: the file is damaged or from an unknown camera.
        SlowError: the time is over before developing, which cannot be interrupted, has begun.
    """
    import rawpy

    with rawpy.imread(io.BytesIO(data)) as raw:
        sizes = raw.sizes
        check_size((sizes.raw_width, sizes.raw_height))
        preview = _preview(rawpy, raw, decode_preview, deadline)
        if preview is not None and max(preview.size) >= min(MIN_PREVIEW, max(sizes.width, sizes.height)):
            return preview
        deadline.check()
        return Image.fromarray(raw.postprocess(use_camera_wb=True, output_bps=8))


def _preview(rawpy: Any, raw: Any, decode: Callable[[bytes], Image.Image], deadline: Deadline) -> Image.Image | None:
    """The preview, upright; None where there is none that can be read."""
    try:
        found = raw.extract_thumb()
    except rawpy.LibRawError:  # none, or of a format that LibRaw does not know
        return None
    turn = _ORIENTATIONS.get(raw.sizes.flip, 1)
    if found.format != rawpy.ThumbFormat.JPEG:
        image = Image.fromarray(found.data)
        return upright(image, _needed(image.size, raw.sizes, turn, turn))
    try:
        image = decode(found.data)
    except ImageError:  # the sensor's picture may be whole
        return None
    stated = read_jpeg(found.data, deadline).orientation
    stored = upright(image, _INVERSE.get(stated, stated))
    return upright(stored, _needed(stored.size, raw.sizes, turn, stated))


def _needed(stored: tuple[int, int], sizes: Any, turn: int, stated: int) -> int:
    """The orientation of a preview as it is stored.

    Cameras store previews as the sensor saw them, or turned already: of a quarter turn the shape tells. What the
    preview states does not, for LibRaw writes the orientation of the file into previews that state none.
    """
    if turn not in (6, 8) or stored[0] == stored[1] or sizes.width == sizes.height:
        return stated
    return turn if (stored[0] > stored[1]) == (sizes.width > sizes.height) else 1
