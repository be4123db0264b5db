"""Camera raw files: the preview that the camera embedded where it is large enough, else the developed picture.

Below `decode`. LibRaw reads them, through rawpy (the extra `raw`).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from PIL import Image

from pipeline.imaging.exif import upright

# A preview with a shorter long side is too small to be described: the raw picture is developed instead.
MIN_PREVIEW = 1024
# LibRaw's turns, as EXIF orientations.
_ORIENTATIONS = {0: 1, 3: 3, 5: 8, 6: 6}


def read_raw(
    data: bytes, check_size: Callable[[tuple[int, int]], None], decode_preview: Callable[[bytes], Image.Image]
) -> Image.Image:
    """The upright sRGB picture of a raw file.

    Args:
        data: the file.
        check_size: raises for a width and height that are too large.
        decode_preview: decodes an embedded JPEG, and turns it as its own metadata states.

    Raises:
        ModuleNotFoundError: rawpy is not installed.
        rawpy.LibRawError: the file is damaged or from an unknown camera.
    """
    import rawpy

    with rawpy.imread(io.BytesIO(data)) as raw:
        sizes = raw.sizes
        check_size((sizes.raw_width, sizes.raw_height))
        preview = _preview(rawpy, raw, decode_preview)
        if preview is not None and max(preview.size) >= min(MIN_PREVIEW, max(sizes.width, sizes.height)):
            # Cameras store previews turned, or as the sensor saw them: the shape of the developed picture tells which.
            turned = (preview.width > preview.height) != _is_wide(sizes)
            return upright(preview, _ORIENTATIONS.get(sizes.flip, 1)) if turned or sizes.flip == 3 else preview
        return Image.fromarray(raw.postprocess(use_camera_wb=True, output_bps=8))


def _is_wide(sizes: Any) -> bool:
    """Whether the developed, upright picture is wider than high."""
    width, height = (sizes.height, sizes.width) if sizes.flip in (5, 6) else (sizes.width, sizes.height)
    return int(width) > int(height)


def _preview(rawpy: Any, raw: Any, decode: Callable[[bytes], Image.Image]) -> Image.Image | None:
    try:
        found = raw.extract_thumb()
    except rawpy.LibRawError:  # none, or of a format that LibRaw does not know
        return None
    return decode(found.data) if found.format == rawpy.ThumbFormat.JPEG else Image.fromarray(found.data)
