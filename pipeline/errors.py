"""Errors a person can act on: one line that names the file, the value and what to do.

Every room raises these; the command line prints the line and ends with the error's exit code.
The codes are the contract of the CLI: 1 error, 2 wrong usage, 3 too many failed inputs, 75 locked (EX_TEMPFAIL).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RelookError(Exception):
    """Anything that stops a run for a reason the user can mend. The message is one line."""

    exit_code = 1


class UsageError(RelookError):
    """The command line or the configuration asks for something that does not exist."""

    exit_code = 2


class TooManyFailuresError(RelookError):
    """The run is done, but more inputs failed than `--max-failures` allows."""

    exit_code = 3


class LockedError(RelookError):
    """Another run is writing to the same index."""

    exit_code = 75


class FailedElsewhereError(RelookError):
    """Another process of the same training failed with `exit_code` and says why; there is nothing left to say."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("another process of this training failed")
        self.exit_code = exit_code


class UnreachableError(RelookError):
    """A store of photos that cannot be reached: a run ends there, since every other photo would fail as well."""


class ImageError(RelookError):
    """An image that cannot be used. `path` names it, `reason` says why in a few words."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """An error for a name that no registry knows, with the nearest one that it does know.

    Args:
        kind: what was looked up, such as "reranker".
        name: what the user wrote.
        known: the names that would have worked.
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(names[:20])}"
    return UsageError(f"unknown {kind} {name!r}; {hint}")
