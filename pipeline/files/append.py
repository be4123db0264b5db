"""Adding to the end of a file so that what was added survives a kill and a power cut.

For files that a person's answers go into one by one; files that appear whole are written by `atomic_write`.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.files.atomic_write import flush_folder


def append_line(path: Path, line: bytes) -> None:
    """Add a line, without its end, and return when it is on the disk. The file is made with its folder.

    A last line without an end is ended first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a+b") as stream:
        if stream.seek(0, os.SEEK_END):
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                line = b"\n" + line
        stream.write(line + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    if new:
        flush_folder(path.parent)
