"""Files that appear whole or not at all, and their checksums.

Below every room: parts, manifests, checkpoints and reports are all written through `atomic_path`.
The order (write, flush, rename, flush the folder) is what POSIX asks for a rename to survive a power cut.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import LockedError, RelookError
from pipeline.faults import fault_point

TEMPORARY = ".tmp"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; when the block ends well it takes the place of `path` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        yield temporary
        fault_point("written")
        _flush(temporary)
        fault_point("flushed")
        temporary.replace(path)
        fault_point("renamed")
        _flush(path.parent)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the content of `path` by `data`, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """A full disk, a folder without permission or a name that is no text ends in one line that names the file."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise RelookError(f"{path}: cannot be written ({error.object!r} is not Unicode; rename that file)") from None
    except OSError as error:
        raise RelookError(f"{path}: cannot be written ({error.strerror or error})") from None


@contextmanager
def exclusive_lock(lock: Path, busy: str) -> Iterator[None]:
    """Holds a lock file for one process of this machine; it ends with its holder, however that ends.

    Args:
        lock: the file, made with its folder where it is missing.
        busy: what the error says while another process holds it.

    Raises:
        LockedError: another process holds it.
        RelookError: the file cannot be written.
    """
    with write_errors(lock.parent):
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock)
        try:
            held.acquire(timeout=0)
        except Timeout:
            raise LockedError(busy) from None
    try:
        yield
    finally:
        held.release()


def sha256_of(path: Path) -> str:
    """The hexadecimal SHA-256 of a file, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
