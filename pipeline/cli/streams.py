"""Where results and messages go: consoles on stdout and stderr that lose nothing, whatever their encoding and width.

Below the verbs of this room. A character that the encoding of a stream lacks, or that a terminal would obey, is written
escaped; lines for a program or a file are as long as they have to be.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO

from rich.console import Console

from pipeline.files import visible

# Columns of a table that no terminal shows: a path has at most 4,096 characters.
_UNFOLDED = 20_000
# DEL and C1: the control characters that JSON may hold as they are.
_CONTROLS = {number: f"\\u{number:04x}" for number in range(0x7F, 0xA0)}


class _VisibleConsole(Console):
    """Text that is printed by itself may hold names from outside, in which no control character is obeyed."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(visible(o, "\n") if isinstance(o, str) else o for o in objects), **options)


def _console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    folded = stream.isatty() or bool(os.environ.get("COLUMNS"))
    return _VisibleConsole(stderr=stderr, width=None if folded else _UNFOLDED)


out = _console()
err = _console(stderr=True)


def use_utf8_names() -> None:
    """Start this process again in Python's UTF-8 mode where the locale would read file names in another encoding.

    Names are bytes, and UTF-8 nearly everywhere: in the locale POSIX or Latin-1 they would be damaged or refused. What
    is written to a terminal stays in the terminal's encoding.
    """
    if os.name != "posix" or sys.getfilesystemencoding().lower().replace("-", "") == "utf8":
        return
    environment = {"PYTHONIOENCODING": f"{sys.stdout.encoding}:backslashreplace", **os.environ, "PYTHONUTF8": "1"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def escape_unencodable() -> None:
    """Have stdout and stderr write what their encoding lacks as a Python escape such as \\u6771."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a stream that a caller put in its place may be of another kind
            stream.reconfigure(errors="backslashreplace")


def write_json(document: dict[str, Any], stream: TextIO | None = None) -> None:
    """Write one JSON document on one line; valid in every encoding."""
    stream = stream or sys.stdout
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "")
    # A surrogate, from a name that is not Unicode, has no place in UTF-8 either: JSON has an escape for it.
    try:
        text = json.dumps(document, ensure_ascii=not encoding.startswith("utf"))
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(document)
    stream.write(text.translate(_CONTROLS) + "\n")
