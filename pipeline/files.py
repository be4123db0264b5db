"""Files that appear whole or not at all, locks, checksums, cells that are safe in spreadsheets, and why writing failed.

Below every room: parts, manifests, checkpoints and reports are all written through `atomic_path` inside `write_errors`.
The order (write, flush, rename, flush the folder) is what POSIX requires for a rename to survive a power cut.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import LockedError, RelookError
from pipeline.faults import fault_point

if TYPE_CHECKING:
    from filelock import BaseFileLock

TEMPORARY = ".tmp"

# What file systems say that cannot lock: NFS without its lock service, some cluster and FUSE file systems. 524 is
# ENOTSUPP, which Linux has for itself and Python does not name.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, 524})

# Libraries that write by themselves say why they cannot in words, not as an OSError.
_DISK_WORDS = re.compile(
    r"no space left on device|disk quota exceeded|read-only file system|permission denied|input/output error"
    r"|operation not permitted|file too large|disk is full|readonly database|unable to open database file"
    r"|disk i/o error",
    re.IGNORECASE,
)

# What spreadsheets take for a formula, and what `escape_formula` makes of that.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_ESCAPED = re.compile(r"'+[=+\-@\t\r]")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; when the block ends without an error it replaces `path` in one step.

    The file gets the permissions that the umask of the process gives to new files, whoever wrote it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with temporary.open("wb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
        yield temporary
        if temporary.stat().st_mode != mode:  # some libraries make files that their user alone may read
            temporary.chmod(mode & 0o777)
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
    """Turn what a file system refuses (ENOSPC, EDQUOT, EROFS, EACCES, ...) into one line that names `path`.

    Also where the library that writes has an error type of its own, as SQLite, safetensors, FAISS and HDF5 do.

    Raises:
        RelookError: instead of these; every other error passes.
    """
    try:
        yield
    except RelookError:
        raise
    except UnicodeEncodeError as error:
        raise RelookError(f"{path}: cannot be written ({error.object!r} is not Unicode; rename that file)") from None
    except Exception as error:
        reason = _disk_reason(error)
        if reason is None:
            raise
        raise RelookError(f"{path}: cannot be written ({reason})") from None


@contextmanager
def exclusive_lock(lock: Path, busy: str) -> Iterator[None]:
    """Hold a lock file for one process of this machine; the lock ends with its process, however that ends.

    Args:
        lock: the file, made with its folder where it is missing.
        busy: what the error says while another process holds it.

    Raises:
        LockedError: another process holds it.
        RelookError: the file cannot be written.
    """
    with write_errors(lock.parent):
        lock.parent.mkdir(parents=True, exist_ok=True)
        acquired = _acquire(lock, busy)
    try:
        yield
    finally:
        acquired.release()


def escape_formula(text: str) -> str:
    """`text`, with an apostrophe before it where a spreadsheet would run it: =1+1, but also -copy(1).jpg.

    For tables that people open; those that only programs read hold names and labels as they are.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unescape_formula(cell: str) -> str:
    """The text that `escape_formula` made a cell of."""
    return cell[1:] if _ESCAPED.match(cell) else cell


def sha256_of(path: Path) -> str:
    """The hexadecimal SHA-256 of a file, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _acquire(lock: Path, busy: str) -> BaseFileLock:
    """The lock of the operating system, or where the file system has none, a file that exists while it is held."""
    from filelock import FileLock, SoftFileLock, Timeout

    kinds: list[tuple[type[BaseFileLock], Path]] = [
        (FileLock, lock),
        (SoftFileLock, lock.with_name(f"{lock.name}.soft")),
    ]
    for kind, file in kinds:
        acquired = kind(file)
        try:
            acquired.acquire(timeout=0)
            return acquired
        except Timeout:
            raise LockedError(busy) from None
        except OSError as error:
            if kind is SoftFileLock or error.errno not in NO_LOCKS:
                raise
    raise AssertionError("unreachable")


def _disk_reason(error: BaseException) -> str | None:
    """Why a file system refused, in its words; None where the error has nothing to do with one."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, sqlite3.OperationalError) or _is_foreign(error):
        found = _DISK_WORDS.search(str(error))
        if found:
            return found[0][0].upper() + found[0][1:]
    return None


def _is_foreign(error: BaseException) -> bool:
    """Whether a library raised this: FAISS and HDF5 have RuntimeErrors, safetensors its own."""
    return isinstance(error, RuntimeError) or type(error).__name__ == "SafetensorError"


def _flush(path: Path) -> None:
    if path.is_dir():
        if sys.platform == "win32":  # where a folder cannot be opened
            return
        descriptor = os.open(path, os.O_RDONLY)
    else:
        descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
