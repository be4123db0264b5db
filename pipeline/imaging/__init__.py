"""Bytes to an upright RGB picture, and the resizes that every describer uses.

Between the catalog's paths and a describer's `prepare`. `read` opens files; `decode` turns bytes into pixels, with one
module per container (`jpeg`, `png`, `webp`, `gif`, `tiff`, `jpeg2000`, `heif`, `raw`) and per concern (`exif`, `depth`,
`colour`); `resize` scales.
"""

from pipeline.imaging.colour import ColourRule
from pipeline.imaging.decode import MAX_SCANS, decode_image
from pipeline.imaging.limits import Pixels, Smallest, too_slow
from pipeline.imaging.picture import Picture, check_pixels, read_picture
from pipeline.imaging.read import ImageFile, read_image
from pipeline.imaging.resize import INTERPOLATIONS, MAX_ASPECT, ResizeRule, resize, resize_by, target_size
from pipeline.imaging.thumbnail import data_address, jpeg_bytes, thumbnail, thumbnail_bytes

__all__ = [
    "INTERPOLATIONS",
    "MAX_ASPECT",
    "MAX_SCANS",
    "ColourRule",
    "ImageFile",
    "Picture",
    "Pixels",
    "ResizeRule",
    "Smallest",
    "check_pixels",
    "data_address",
    "decode_image",
    "jpeg_bytes",
    "read_image",
    "read_picture",
    "resize",
    "resize_by",
    "target_size",
    "thumbnail",
    "thumbnail_bytes",
    "too_slow",
]
