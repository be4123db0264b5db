"""Archives unpacked without trusting them: plain files only, none outside the folder, no more bytes than they warrant.

Below `bring`. Reading to the end proves what an archive holds against its own checks (gzip's and zip's CRC), which is
all that there is where its authors publish no checksum.
"""

from __future__ import annotations

import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from pipeline.errors import RelookError
from pipeline.files import write_errors

_BLOCK = 1 << 20
# Photos hardly shrink: an archive that swells more than this is not one of photos.
_MOST_TIMES = 20
_MOST_BESIDES = 64 << 20


def unpack(
    archive: Path, folder: Path, below: str = "", flat: bool = False, progress: Callable[[int], None] | None = None
) -> int:
    """Unpack into `folder`; returns how many files.

    Args:
        archive: a .tar, .tar.gz, .tgz or .zip, recognised by its content.
        folder: where to; made if it is not there.
        below: only what lies below this folder of the archive, without the folder.
        flat: every file right into `folder`, whatever folder it lay in.
        progress: called with the number of files.

    Raises:
        RelookError: it is damaged or cut short, holds a link or a device, a path that leaves the folder, a duplicate
            name, far more bytes than its length warrants, or nothing below `below`.
    """
    taken: set[str] = set()
    writer = _Writer(archive, folder)
    with _reading(archive):
        for name, stream in _members(archive):
            place = _place(archive, name, below, flat)
            if place is None:
                continue
            if place in taken:
                raise RelookError(f"{archive}: duplicate file {place!r}")
            taken.add(place)
            writer.write(place, stream)
            if progress is not None:
                progress(len(taken))
    if not taken:
        raise RelookError(f"{archive}: holds no files" + (f" below {below}/" if below else ""))
    return len(taken)


class _Writer:
    """Writes files below a folder, and counts their bytes."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self._archive = archive
        self._left = archive.stat().st_size * _MOST_TIMES + _MOST_BESIDES
        folder.mkdir(parents=True, exist_ok=True)
        self._root = folder.resolve()
        self._safe: set[Path] = set()

    def write(self, place: str, stream: IO[bytes]) -> None:
        target = self._root / place
        with write_errors(target):
            self._make(target.parent)
            if target.is_symlink():
                raise RelookError(f"{target}: is a link; what it points to is left alone")
            with target.open("wb") as output:
                while block := stream.read(_BLOCK):
                    self._left -= len(block)
                    if self._left < 0:
                        raise RelookError(f"{self._archive}: unpacks to more than {_MOST_TIMES} times its length")
                    output.write(block)

    def _make(self, parent: Path) -> None:
        """A link that lies in the folder already must not lead out of it."""
        if parent in self._safe:
            return
        if not parent.resolve().is_relative_to(self._root):
            raise RelookError(f"{parent}: leads out of {self._root}")
        parent.mkdir(parents=True, exist_ok=True)
        self._safe.add(parent)


def _place(archive: Path, name: str, below: str, flat: bool) -> str | None:
    """Where a member goes; None: it is not wanted."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or ":" in path.parts[0]:
        raise RelookError(f"{archive}: the path {name!r} leaves the folder")
    if below:
        if not path.is_relative_to(below):
            return None
        path = path.relative_to(below)
    return path.name if flat else path.as_posix()


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with archive.open("rb") as stream:
        start = stream.read(4)
        stream.seek(0)
        if start[:2] == b"PK":
            yield from _zip_members(archive, stream)
        elif start[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=stream) as plain:
                yield from _tar_members(archive, plain)
        else:
            yield from _tar_members(archive, stream)


def _tar_members(archive: Path, stream: IO[bytes] | gzip.GzipFile) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            if member.isdir():
                continue
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                raise RelookError(f"{archive}: {member.name!r} is a link or a device, not a plain file")
            yield member.name, content
            tar.members = []  # type: ignore[attr-defined]  # of a million files not all names are kept
    while stream.read(_BLOCK):  # the checksum is at the very end
        pass


def _zip_members(archive: Path, stream: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(stream) as file:
        for member in file.infolist():
            if member.is_dir():
                continue
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise RelookError(f"{archive}: {member.filename!r} is a link or a device, not a plain file")
            with file.open(member) as content:
                yield member.filename, content


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise RelookError(f"{archive}: damaged or no archive ({error})") from None
    except (NotImplementedError, RuntimeError) as error:  # zip's: a compression it does not know, a password
        raise RelookError(f"{archive}: cannot be unpacked ({error})") from None
