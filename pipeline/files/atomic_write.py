"""Files that appear whole or not at all.

Parts, manifests, checkpoints and reports are all written through `atomic_path` inside `write_errors`. The order (write,
flush, rename, flush the folder) is what POSIX requires for a rename to survive a power cut.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.faults import fault_point

TEMPORARY = ".tmp"


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


def flush_folder(folder: Path) -> None:
    """Have the names of a folder survive a power cut."""
    _flush(folder)


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
