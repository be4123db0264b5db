"""Thumbnails of a page: part of the file where they are few, in a folder beside it where they are many.

Used by `page`, which renders templates. Browsers load the pictures of a folder when they are scrolled into view. In one
file the 11,000 pictures of 1,000 queries would be over 100 MB, all of it read before the first is seen.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from pipeline.files import write_bytes, write_errors

# With more pictures than this, a page has a folder: some 5 MB of thumbnails.
MAX_INLINE = 600
_OURS = re.compile(r"[0-9a-f]{20}\.jpg")


class Pictures:
    """Gives each picture of a page an address.

    Args:
        page: the file of the page.
        count: how many pictures it will have.
    """

    def __init__(self, page: Path, count: int) -> None:
        self.folder = page.with_name(f"{page.stem}_files") if count > MAX_INLINE else None
        self._written: set[str] = set()

    def thumbnail(self, path: str, box: Sequence[float] | None = None, side: int = 200) -> str:
        """The address of a small picture of a photo, with the frame `box`; "" where it cannot be read any more."""
        if not path:
            return ""
        from pipeline.imaging import thumbnail_bytes

        if self.folder is None:
            return self._inline(thumbnail_bytes(path, box, side))
        name = _name(path, box, side)
        if name in self._written:
            return self._address(name)
        return self._in_folder(name, thumbnail_bytes(path, box, side))

    def picture(self, data: bytes) -> str:
        """The address of an encoded JPEG."""
        return self._inline(data) if self.folder is None else self._in_folder(_name(data), data)

    def remove_old(self) -> None:
        """Delete from the folder what an earlier page of this name had; other files stay."""
        if self.folder is None or not self.folder.is_dir():
            return
        for file in self.folder.iterdir():
            if _OURS.fullmatch(file.name) and file.name not in self._written:
                with write_errors(file):
                    file.unlink(missing_ok=True)

    def _in_folder(self, name: str, data: bytes) -> str:
        if not data:
            return ""
        assert self.folder is not None
        with write_errors(self.folder / name):
            write_bytes(self.folder / name, data)
        self._written.add(name)
        return self._address(name)

    def _address(self, name: str) -> str:
        assert self.folder is not None
        return f"{quote(self.folder.name, errors='surrogateescape')}/{name}"

    @staticmethod
    def _inline(data: bytes) -> str:
        return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}" if data else ""


def _name(*parts: object) -> str:
    text = parts[0] if isinstance(parts[0], bytes) else repr(parts).encode()
    return f"{hashlib.sha256(text).hexdigest()[:20]}.jpg"
