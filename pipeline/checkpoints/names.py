"""Paths of checkpoints: `FILE`, or `FILE#KEY` for one of several state dicts in a file.

Apart from `weight_files.py`, which reads them and loads torch.
"""

from __future__ import annotations

from pathlib import Path


def split_key(path: Path) -> tuple[Path, str | None]:
    """The file of a checkpoint's path, and the key after "#"; a file whose own name has a "#" is taken as it is."""
    name, separator, key = path.name.rpartition("#")
    if not separator or not name or path.exists():
        return path, None
    return path.with_name(name), key
