"""The lock of an index directory: one writer at a time, also where two hosts share a network drive.

Held by the index writer. Two things make it: `flock` on `.lock`, which ends with its process however that ends, and
`.lock-holder`, which says who holds it. Where `flock` is missing (Windows, some network drives) or hosts do not see
each other's, the holder's file decides: its time changes every few seconds while the holder lives. Only whether it
changes counts, by the clock of the one who waits, so no two clocks have to agree.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import LockedError, RelookError
from pipeline.files import NO_LOCKS, TEMPORARY

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows: the holder's file alone decides
    fcntl = None

logger = logging.getLogger("relook")

LOCK = ".lock"
HOLDER = ".lock-holder"

# Seconds between two updates of the holder's file, without an update until the holder counts as dead, and between two
# checks of another holder's file.
BEAT = 10.0
LEASE = 35.0
LOOK = 0.5


@dataclass(frozen=True)
class Holder:
    """Who wrote `.lock-holder`; `token` is of one run alone."""

    pid: int
    host: str
    since: str
    token: str

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host} since {self.since}"


class IndexLock:
    """The right to write to an index directory.

    Args:
        directory: the index, which exists.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: int | None = None
        self._alive = threading.Event()
        self._beating: threading.Thread | None = None
        started = datetime.now(UTC).isoformat(timespec="seconds")
        self._me = Holder(os.getpid(), socket.gethostname(), started, secrets.token_hex(8))

    def acquire(self) -> None:
        """Take the lock. Raises LockedError when another process has it, RelookError where it cannot be made."""
        try:
            self._take()
        except OSError as error:
            self._let_go()
            raise RelookError(f"{self._directory}: cannot be written to ({error.strerror})") from None
        except BaseException:
            self._let_go()
            raise

    def release(self) -> None:
        """Give the lock back."""
        self._alive.set()
        if self._beating:
            self._beating.join()
        if self._owner() == self._me:
            with suppress(OSError):
                (self._directory / HOLDER).unlink()
        self._let_go()

    def check(self) -> None:
        """Raises LockedError when another host took over, which it may when this one was stopped for long."""
        owner = self._owner()
        if owner is not None and owner.token != self._me.token:
            raise LockedError(f"{self._directory}: the lock was lost to {owner}; nothing more is written")

    def _take(self) -> None:
        self._file = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        exclusive = self._flock()
        if not self._claim():
            owner = self._owner()
            if owner is None or owner.host != self._me.host or not exclusive:
                self._watch(owner)
            logger.warning(
                "%s: the lock of %s is taken over, because that run has died",
                self._directory,
                owner or "an unknown run",
            )
            self._replace()
        self._alive.clear()
        self._beating = threading.Thread(target=self._beat, name="lock", daemon=True)
        self._beating.start()

    def _flock(self) -> bool:
        """Whether system and file system have locks. Raises LockedError when another process has this one."""
        if fcntl is None:
            return False
        assert self._file is not None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._held_by(self._owner()) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            return False
        return True

    def _claim(self) -> bool:
        """Make the holder's file, unless there is one: of two hosts one does."""
        try:
            file = os.open(self._directory / HOLDER, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        with os.fdopen(file, "w") as stream:
            stream.write(self._text())
        return True

    def _watch(self, owner: Holder | None) -> None:
        """Returns when the holder gave no sign of life for as long as it may. Raises LockedError when it did."""
        first, until = self._sign(), time.monotonic() + LEASE
        while time.monotonic() < until:
            time.sleep(LOOK)
            if self._sign() != first:
                raise self._held_by(self._owner() or owner)

    def _replace(self) -> None:
        """Take the place of a holder that died. Raises LockedError when another host did so at the same time."""
        path = self._directory / f"{HOLDER}.{os.getpid()}{TEMPORARY}"
        path.write_text(self._text())
        path.replace(self._directory / HOLDER)
        owner = self._owner()
        if owner != self._me:
            raise self._held_by(owner)

    def _beat(self) -> None:
        while not self._alive.wait(BEAT):
            with suppress(OSError):
                os.utime(self._directory / HOLDER)

    def _sign(self) -> tuple[int, str] | None:
        """What changes while the holder lives. The file is opened: for closed ones drives answer from memory."""
        try:
            with (self._directory / HOLDER).open() as stream:
                return os.fstat(stream.fileno()).st_mtime_ns, stream.read()
        except FileNotFoundError:
            return None

    def _owner(self) -> Holder | None:
        """Who the file names; None when there is none, or it is being written."""
        try:
            return Holder(**json.loads((self._directory / HOLDER).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _text(self) -> str:
        return json.dumps(vars(self._me))

    def _held_by(self, owner: Holder | None) -> LockedError:
        return LockedError(f"{self._directory}: another run holds the lock ({owner or 'which has just started'})")

    def _let_go(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
