"""A lock file that one process of a machine holds at a time.

The lock of an index, which names its holder, is in `stores/index/lock.py`.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import LockedError
from pipeline.files.disk_errors import write_errors

if TYPE_CHECKING:
    from filelock import BaseFileLock

# What file systems say that cannot lock: NFS without its lock service, some cluster and FUSE file systems. 524 is
# ENOTSUPP, which Linux has for itself and Python does not name.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, 524})


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
