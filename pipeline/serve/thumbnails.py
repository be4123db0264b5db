"""Photos as small JPEG files without metadata, kept on disk within a bound.

Used by `routes`. A picture is made of pixels that are upright and in sRGB, so nothing of the original file but what it
shows is sent. The name of a file follows from the photo's path, time, size and side: a changed photo is made anew.
"""

from __future__ import annotations

import hashlib
import io
import logging
import threading
from pathlib import Path

from PIL import Image

from pipeline.config import ServeConfig
from pipeline.errors import ImageError
from pipeline.files import Place
from pipeline.imaging import read_image
from pipeline.serve.metrics import Metrics

logger = logging.getLogger("relook")

# Below this share of the bound nothing more is removed, so that not every new file removes one.
_KEPT = 0.9
_QUALITY = {160: 80, 320: 82, 640: 85}


class Thumbnails:
    """The cache.

    Args:
        directory: where the files lie; made when the first one is written.
        settings: its bound, and the limits of a photo.
        metrics: told how many bytes there are.
    """

    def __init__(self, directory: Path, settings: ServeConfig, metrics: Metrics) -> None:
        self._directory, self._settings, self._metrics = directory, settings, metrics
        self._bound = settings.thumbnails.max_bytes
        self._lock, self._bytes, self._writable = threading.Lock(), -1, True

    def jpeg(self, photo: Place, side: int, *, max_pixels: int, max_bytes: int) -> tuple[bytes, str]:
        """A photo, at most `side` pixels wide and high, as JPEG, and a text that names this version of it.

        Args:
            photo: its file.
            side: pixels.
            max_pixels, max_bytes: larger photos are refused.

        Raises:
            ImageError: the photo is gone or cannot be read.
        """
        try:
            facts = photo.stat()
        except (OSError, ValueError):
            raise ImageError(photo.name, "the photo is gone") from None
        version = f"{photo}\0{facts.st_mtime_ns}\0{facts.st_size}\0{side}"
        key = hashlib.sha256(version.encode(errors="surrogateescape")).hexdigest()
        file = self._directory / key[:2] / f"{key}.jpg"
        try:
            data = file.read_bytes()
            file.touch()  # used now
            return data, key
        except OSError:
            pass
        data = self._make(photo, side, max_pixels, max_bytes)
        self._keep(file, data)
        return data, key

    def _make(self, photo: Place, side: int, max_pixels: int, max_bytes: int) -> bytes:
        seconds = self._settings.decode_seconds
        read = read_image(photo, max_pixels=max_pixels, max_bytes=max_bytes, seconds=seconds, icc="srgb")
        image = Image.fromarray(read.pixels)
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=_QUALITY.get(side, 88), optimize=True)
        return stream.getvalue()

    def _keep(self, file: Path, data: bytes) -> None:
        """Write a file and remove those used longest ago where there are too many; a full disk ends nothing."""
        if not self._writable or len(data) > self._bound:
            return
        with self._lock:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                temporary = file.with_suffix(".tmp")
                temporary.write_bytes(data)  # not flushed: a lost thumbnail is made again
                temporary.replace(file)
                self._bytes = self._counted() if self._bytes < 0 else self._bytes + len(data)
                if self._bytes > self._bound:
                    self._remove_oldest()
            except OSError as error:
                logger.warning("%s: thumbnails are not kept (%s)", self._directory, error.strerror)
                self._writable = False
            self._metrics.thumbnail_bytes.set(max(self._bytes, 0))

    def _counted(self) -> int:
        return sum(path.stat().st_size for path in self._directory.glob("*/*.jpg"))

    def _remove_oldest(self) -> None:
        files = sorted((path.stat().st_mtime_ns, path.stat().st_size, path) for path in self._directory.glob("*/*.jpg"))
        left = sum(size for _, size, _ in files)
        for _, size, path in files:
            if left <= _KEPT * self._bound:
                break
            path.unlink(missing_ok=True)
            left -= size
        self._bytes = left
