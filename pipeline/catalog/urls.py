"""What is written like a URL, in place of a file or folder: an error that says what to do.

Below the registry, and used for queries as well.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.errors import RelookError

# Path() and shells fold the second slash of https://, so one is enough.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://?[^/]")


def refuse_url(source: str) -> None:
    """Raises RelookError for what is written like a URL, unless a file has that name."""
    if _URL.match(source) and not Path(source).exists():
        raise RelookError(f"{source}: relook reads files and fetches no URLs; download it and give the file or folder")
