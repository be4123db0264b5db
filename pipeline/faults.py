"""Instants at which tests have a process killed: just before and after every step of a commit.

Below every room. Outside tests the variable is not set, and a fault point costs one comparison with None.
"""

from __future__ import annotations

import os
import signal

# "NAME:N" kills this process, as by SIGKILL, when it reaches the fault point NAME for the Nth time; NAME may be "any".
VARIABLE = "RELOOK_KILL_AT"

_asked = os.environ.get(VARIABLE)
_reached = 0


def fault_point(name: str) -> None:
    """A place where a killed process leaves something half done."""
    if _asked is not None:
        _reach(name, *_asked.rsplit(":", 1))


def _reach(name: str, wanted: str, number: str) -> None:
    global _reached
    if wanted in (name, "any"):
        _reached += 1
        if _reached == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
