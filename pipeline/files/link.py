"""A file under a second name, without copying it where the file system can.

Used where parts that another process wrote become parts of an index.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from pipeline.faults import fault_point
from pipeline.files.atomic_write import atomic_path, flush_folder


def link_file(source: Path, target: Path) -> None:
    """Make `target`, which does not exist, the file `source`: a hard link, or a copy where links cannot be made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # another file system, or one without links: the copy says what is wrong, if anything is
        os.link(source, target)
        fault_point("linked")
        flush_folder(target.parent)
        return
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
