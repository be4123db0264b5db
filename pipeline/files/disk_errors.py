"""Why writing a file failed, as one line that names it.

Around every `atomic_path`, whichever library writes.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import RelookError

# Libraries that write by themselves say why they cannot in words, not as an OSError.
_DISK_WORDS = re.compile(
    r"no space left on device|disk quota exceeded|read-only file system|permission denied|input/output error"
    r"|operation not permitted|file too large|disk is full|readonly database|unable to open database file"
    r"|disk i/o error",
    re.IGNORECASE,
)


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
