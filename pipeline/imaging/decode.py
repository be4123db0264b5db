"""Bytes to an upright RGB picture.

Below `read`, and used alone for pictures that are already in memory. The readers of containers reduce a file to what
its pixels need, Pillow decodes it, and its orientation, depth, colours and transparency are resolved here. Nothing of
Pillow's or Python's global state is changed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

import cv2
import numpy as np
from PIL import Image, ImageFile

from pipeline.errors import ImageError
from pipeline.imaging.colour import ColourRule, to_srgb
from pipeline.imaging.colour_spaces import coded_profile
from pipeline.imaging.container import Container
from pipeline.imaging.depth import deep_colours, deep_to_grey, is_deep
from pipeline.imaging.exif import ORIENTATION, exif_orientation, upright, xmp_orientation
from pipeline.imaging.formats import describe_other, identify
from pipeline.imaging.gif import read_gif
from pipeline.imaging.heif import read_heif, read_jxl
from pipeline.imaging.jpeg import has_every_scan, read_jpeg
from pipeline.imaging.jpeg2000 import read_jp2
from pipeline.imaging.limits import Deadline, Pixels, SlowError, Smallest, TimedBytes
from pipeline.imaging.opening import DamagedError, UnknownError, UnsupportedError, missing_reason, open_picture
from pipeline.imaging.png import read_png
from pipeline.imaging.raw import read_raw
from pipeline.imaging.tiff import read_tiff
from pipeline.imaging.webp import read_webp

# Photos have about ten scans. A progressive JPEG of a few kilobytes can have thousands, each of which goes over all its
# pixels again.
MAX_SCANS = 100

_END = b"\xff\xd9"

_READERS: dict[str, Callable[[bytes, Deadline], Container]] = {
    "JPEG": read_jpeg,
    "PNG": read_png,
    "WEBP": read_webp,
    "GIF": read_gif,
    "TIFF": read_tiff,
    "HEIF": read_heif,
    "AVIF": read_heif,
    "JXL": read_jxl,
    "JPEG2000": read_jp2,
}
_NAMES = {"WEBP": "WebP", "JXL": "JPEG XL", "JPEG2000": "JPEG 2000", "RAW": "camera raw"}
# Modes whose colours a profile describes.
_PROFILED = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK")


def decode_image(
    data: bytes, *, name: str, max_pixels: int = 200_000_000, seconds: float = 60.0, icc: ColourRule = "ignore"
) -> Pixels:
    """The first frame of an encoded picture, upright, [H, W, 3] uint8 RGB.

    Args:
        data: the file's bytes.
        name: what errors call it.
        max_pixels: larger pictures are refused before they are decoded.
        seconds: decoding that takes longer is given up.
        icc: "srgb" converts by the picture's colour profile, "ignore" takes its values as they are.

    Raises:
        ImageError: it is not a picture, damaged, too large or too slow.
    """
    return decode_within(data, name, max_pixels, Deadline(seconds), icc)[0]


def upright_rgb(image: Image.Image, icc: ColourRule) -> Image.Image:
    """A loaded Pillow image of any mode as its file would be decoded: upright, RGB, transparency on white."""
    orientation, profile = _stated(image, None)
    if orientation == 1:  # set by a program, without a block of bytes
        with suppress(Exception):  # Pillow's parser raises many types, for tags that are not needed
            stated = image.getexif().get(ORIENTATION, 1)
            orientation = stated if stated in range(1, 9) else 1
    return upright(_to_rgb(image, None, profile if icc == "srgb" else None), orientation)


def decode_within(
    data: bytes,
    name: str,
    max_pixels: int,
    deadline: Deadline,
    icc: ColourRule = "ignore",
    smallest: Smallest | None = None,
) -> tuple[Pixels, tuple[int, int]]:
    """`decode_image`, of whose time some may have passed; and the width and height of the upright picture.

    The pixels are a reduced picture where `smallest` allows it; see `read_image`.
    """
    decoder = _Decoder(name, max_pixels, deadline, icc, smallest)
    pixels = np.asarray(decoder.decode(data))
    return pixels, decoder.whole or (pixels.shape[1], pixels.shape[0])


class _Decoder:
    """Decodes one picture within limits.

    Attributes:
        whole: width and height of the upright picture where a reduced one was decoded.
    """

    def __init__(
        self, name: str, max_pixels: int, deadline: Deadline, icc: ColourRule, smallest: Smallest | None
    ) -> None:
        self._name, self._max_pixels, self._deadline, self._icc = name, max_pixels, deadline, icc
        self._smallest, self._lies = smallest, False
        self.whole: tuple[int, int] | None = None

    def decode(self, data: bytes) -> Image.Image:
        """The upright RGB picture. Raises ImageError."""
        kind, container = identify(data), Container(data)
        try:
            if kind == "RAW":
                return read_raw(data, self._check_size, self.decode, self._deadline).convert("RGB")
            if kind in _READERS:
                container = _READERS[kind](data, self._deadline)
            if container.size:
                self._check_size(container.size)
            return self._picture(kind, container)
        except ImageError:
            raise
        except Exception as error:  # parsers raise whatever hostile bytes provoke; every one is the file's fault
            raise ImageError(self._name, _reason(error, kind, container, data)) from None

    def _picture(self, kind: str | None, container: Container) -> Image.Image:
        self._lies = container.orientation >= 5
        load = self._load if container.complete else self._load_without_end
        image = load(kind, container.data)
        orientation, profile = container.orientation, container.profile
        if kind not in ("JPEG", "PNG", "WEBP", "TIFF", "JPEG2000"):
            orientation, profile = _stated(image, kind)
        if container.white is not None and not is_deep(image):
            image = deep_colours(container.data, container.white) or image
        return upright(_to_rgb(image, container.white, profile if self._icc == "srgb" else None), orientation)

    def _load(self, kind: str | None, data: bytes) -> Image.Image:
        """The first frame, in Pillow's mode for it."""
        try:
            with open_picture(kind, TimedBytes(data, self._deadline)) as image:
                self._check_size(image.size)
                self._check_scans(image, data)
                if kind == "JPEG" and self._smallest is not None:
                    self._reduce(image, self._smallest)
                try:
                    image.load()
                except (SlowError, Image.DecompressionBombError):
                    raise
                except Exception as error:
                    raise DamagedError(image.format or "", error) from None
                self._check_size(image.size)  # an icon says how large it is only now
                return image
        except Image.DecompressionBombError:
            # Pillow's own limit belongs to the host program. OpenCV has another; both sizes are known by now.
            if kind not in ("WEBP", "TIFF"):
                raise
            found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            if found is None or found.dtype != np.uint8:
                raise
            return Image.fromarray(found if found.ndim == 2 else found[..., [2, 1, 0, 3][: found.shape[2]]])

    def _reduce(self, image: ImageFile.ImageFile, smallest: Smallest) -> None:
        """Have fewer pixels made of a JPEG's coefficients, where enough are left."""
        stored = image.size
        self.whole = (stored[1], stored[0]) if self._lies else stored
        left = smallest(*self.whole)
        image.draft(None, (left[1], left[0]) if self._lies else left)

    def _load_without_end(self, kind: str | None, data: bytes) -> Image.Image:
        """A JPEG file that has no end marker. Raises ValueError where pixels are missing too.

        What follows the last pixel changes none. Three continuations that differ in their first bits show whether it is
        there.
        """
        whole = self._load(kind, data + _END)
        if has_every_scan(data):
            noise = random.Random(0).randbytes(4096).replace(b"\xff", b"\x0f")
            others = (self._load(kind, data + first + noise + _END) for first in (b"\x2a", b"\xd5"))
            if all(other.tobytes() == whole.tobytes() for other in others):
                return whole
        raise ValueError("the file is truncated")

    def _check_size(self, size: tuple[int, int]) -> None:
        if size[0] * size[1] > self._max_pixels:
            raise ImageError(self._name, f"{size[0]} x {size[1]} pixels, more than the {self._max_pixels:,} allowed")

    def _check_scans(self, image: Image.Image, data: bytes) -> None:
        if not image.info.get("progressive"):
            return
        scans = data.count(b"\xff\xda")  # inside a scan 0xff is always followed by 0
        if scans > MAX_SCANS:
            raise ImageError(self._name, f"a progressive JPEG of {scans:,} scans, more than the {MAX_SCANS} allowed")


def _stated(image: Image.Image, kind: str | None) -> tuple[int, bytes | None]:
    """Orientation and profile as Pillow's reader found them."""
    info = image.info
    orientation = exif_orientation(info["exif"]) if isinstance(info.get("exif"), bytes) else None
    if orientation is None and isinstance(info.get("xmp"), bytes):
        orientation = xmp_orientation(info["xmp"])
    profile = info.get("icc_profile")
    if not profile and kind == "HEIF":
        coded = info.get("nclx_profile") or {}
        profile = coded_profile(coded.get("color_primaries", 2), coded.get("transfer_characteristics", 2))
    turned_already = kind == "HEIF" or (kind == "JXL" and not getattr(image, "jpeg", False))
    return 1 if turned_already else orientation or 1, profile or None


def _to_rgb(image: Image.Image, white: int | None, profile: bytes | None) -> Image.Image:
    """A picture of any mode as RGB: depth, then colours, then transparency, which is put on white."""
    if is_deep(image):
        image = deep_to_grey(image, white)
    profiled = profile if image.mode in _PROFILED else None
    alpha = None
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        full = image.convert("RGBA")
        alpha = full.getchannel("A")
        image = image.getchannel("L") if image.mode == "LA" else full.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    if profiled:
        image = to_srgb(image, profiled)
    image = image.convert("RGB")
    if alpha is None:
        return image
    image.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")


def _reason(error: Exception, kind: str | None, container: Container, data: bytes) -> str:
    if isinstance(error, SlowError | UnsupportedError):
        return str(error)
    if kind == "RAW" and isinstance(error, ImportError):
        return missing_reason(kind)
    if isinstance(error, UnknownError):
        other = describe_other(data)
        return "not a picture in a known format" + (f" ({other})" if other else "")
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels"
    said = error.args[0].decode(errors="replace") if _is_libraws(error) else str(error)
    text = (" ".join(said.split()) or type(error).__name__)[:200]
    name = kind or (error.name if isinstance(error, DamagedError) else "")
    if kind is None and (other := describe_other(data)):
        return f"not a picture in a known format ({other})"
    if not name:
        return f"cannot be decoded ({text})"
    if "unknown pixel mode" in text:  # Pillow's words
        text = "these samples are not supported"
    samples = f", {container.description}" if container.description else ""
    return f"cannot be decoded ({_NAMES.get(name, name)}{samples}: {text})"


def _is_libraws(error: Exception) -> bool:
    """Whether an error holds its text as bytes, as those of rawpy do."""
    return bool(error.args) and isinstance(error.args[0], bytes)
